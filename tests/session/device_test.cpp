// SPDX-License-Identifier: Apache-2.0
#include "session/on_device.hpp"

#include <doctest/doctest.h>

#include <optional>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("A model on a device computes what it computes on the host, attached in every mode and after") {
  OnDevice<Mlp> f;
  Session on_host(f.model);
  Session session(f.moved);
  const Tensor x = ramp({5, 6});
  const Tensor base = on_host(x);
  CHECK(session(x) == base);
  const auto both = [&]<class Mode>() {
    const Guard there = session.attach<Mode>(f.tone, f.other.scaled(-0.5), 0.8);
    const Guard here = on_host.attach<std::conditional_t<std::is_same_v<Mode, in_place>, merged, Mode>>(
        f.tone, f.other.scaled(-0.5), 0.8);
    CHECK(session(x) == on_host(x));
    CHECK_FALSE(session(x) == base);
  };
  both.operator()<side_path>();
  both.operator()<merged>();
  both.operator()<in_place>();
  CHECK(session(x) == base);
  CHECK(f.has_pristine_weights());
}

TEST_CASE("A pass waits for the device once, and brings back the outputs alone") {
  OnDevice<Mlp> f;
  Session session(f.moved, {.tokens = 5});
  const Tensor x = ramp({5, 6});
  static_cast<void>(session.run(x));
  const DeviceCounts before = session.device_counts();
  const Held held(f);
  const Guard guard = session.attach(f.tone);
  static_cast<void>(session.run(x));
  const DeviceCounts after = session.device_counts();
  CHECK(after.waits - before.waits == 1);
  CHECK(after.steps - before.steps == 3);
  CHECK(after.upload_bytes - before.upload_bytes ==
        5 * 6 * 4 + 2 * 4); // the input, and a scale for each term
  CHECK(after.download_bytes - before.download_bytes ==
        5 * 6 * 4 + 4); // the output, and whether a step failed
}

TEST_CASE("What a plan states is what the device and the host hold, and all goes back") {
  OnDevice<Mlp> f;
  Session session(f.moved);
  in_each_mode([&]<class Mode>(Mode) {
    CAPTURE(std::string(attach_mode_name(Mode::mode)));
    const Held before(f);
    const AttachPlan plan = session.plan<Mode>(f.tone, f.other, f.tone.scaled(0.1));
    CHECK(Held(f) == before);
    {
      const PeakScope host_peak(f.ledger);
      const PeakScope device_peak(f.memory());
      const Guard guard = session.attach<Mode>(f.tone, f.other, f.tone.scaled(0.1));
      CHECK(host_peak.peak_above_start() == plan.bytes.total());
      CHECK(device_peak.peak_above_start() == plan.device_bytes.total());
      CHECK(f.memory().current().total() == before.on_device.total() + plan.device_bytes.total());
      CHECK((plan.device_bytes[Category::overlay] > 0) == (Mode::mode == AttachMode::merged));
      CHECK(plan.bytes[Category::overlay] == 0);
    }
    CHECK(Held(f) == before);
  });
}

TEST_CASE("An attach that fails on a device leaves device, ledger and outputs as they were") {
  OnDevice<Repeat<"layer", 2, Mlp>> f;
  Session session(f.moved);
  const Tensor x = ramp({5, 6});
  const Tensor base = session(x);
  in_each_mode([&]<class Mode>(Mode) {
    CAPTURE(std::string(attach_mode_name(Mode::mode)));
    const Held before(f);
    for (int StandInDevice::* const which : {&StandInDevice::refuse_after, &StandInDevice::fail_after}) {
      int failures = 0;
      const std::uint64_t generation = session.adapter_generation();
      for (int allowed = 0;; ++allowed) {
        (*f.gpu).*which = allowed;
        std::optional<ErrorCode> failed;
        try {
          const Guard guard = session.attach<Mode>(f.tone, f.other);
        } catch (const error& why) {
          failed = why.code();
        }
        (*f.gpu).*which = -1;
        if (!failed) break;
        ++failures;
        CHECK(failed ==
              (which == &StandInDevice::refuse_after ? ErrorCode::out_of_memory : ErrorCode::device_failed));
        CHECK(Held(f) == before);
        CHECK(session.adapter_generation() == generation);
        CHECK(session(x) == base);
        CHECK(f.has_pristine_weights());
      }
      CHECK(failures >= 2);
    }
  });
}

TEST_CASE("Guards on a device may nest and end in any order, in place among overlays") {
  OnDevice<Mlp> f;
  Session on_host(f.model);
  Session session(f.moved);
  const Tensor x = ramp({4, 6});
  const Tensor base = on_host(x);
  const auto expected = [&](double tone, double other) {
    const Guard guard = on_host.attach<merged>(f.tone.scaled(tone), f.other.scaled(other));
    return on_host(x);
  };
  std::optional<Guard> first(std::in_place, session.plan<in_place>(f.tone));
  std::optional<Guard> second(std::in_place, session.plan<merged>(f.other));
  CHECK(session(x) == expected(1, 1));
  first.reset();
  CHECK(f.has_pristine_weights());
  CHECK(relative_error(session(x).values(), expected(0, 1).values()) < 1e-6);
  first.emplace(session.plan<in_place>(f.tone, 2.0));
  second.reset();
  CHECK(relative_error(session(x).values(), expected(2, 0).values()) < 1e-6);
  std::optional<Guard> third(std::in_place, session.plan<in_place>(f.other));
  first.reset();
  CHECK(relative_error(session(x).values(), expected(0, 1).values()) < 1e-6);
  third.reset();
  CHECK(session(x) == base);
  CHECK(f.has_pristine_weights());
}

TEST_CASE("A device switches between merged sets in the bytes it has, and a new strength is numbers alone") {
  OnDevice<Mlp> f;
  Session on_host(f.model);
  Session session(f.moved);
  const Tensor x = ramp({4, 6});
  {
    Guard guard = session.attach<merged>(f.tone);
    session.prefetch(f.other);
    const Held held(f);
    guard.switch_to(session.plan<merged>(f.other, 0.5));
    const Guard reference = on_host.attach<merged>(f.other, 0.5);
    CHECK(session(x) == on_host(x));
    CHECK(f.memory().current()[Category::overlay] == held.on_device[Category::overlay]);
  }
  session.evict(f.other);
  Guard guard = session.attach(f.tone);
  static_cast<void>(session(x));
  const Held held(f);
  const DeviceCounts before = session.device_counts();
  guard.rescale(0.25);
  CHECK(session.device_counts().upload_bytes - before.upload_bytes == 2 * 4);
  CHECK(Held(f) == held);
  const Guard reference = on_host.attach(f.tone, 0.25);
  CHECK(session(x) == on_host(x));
}

TEST_CASE("A budget of a device refuses what does not fit it, in words, and takes nothing") {
  OnDevice<Mlp> f;
  Session session(f.moved);
  const Held before(f);
  const AttachPlan plan = session.plan<merged>(f.tone);
  f.memory().set_budget(f.memory().current().budgeted() + plan.device_bytes.total() - 1);
  CHECK_THROWS_AS((void)session.attach<merged>(f.tone), budget_error);
  CHECK(Held(f) == before);
  f.memory().set_budget(f.memory().current().budgeted() + plan.device_bytes.total());
  {
    const Guard guard = session.attach<merged>(f.tone);
  }
  f.memory().set_budget(0);
  try {
    session.load(f.tone);
    FAIL("the budget was not kept");
  } catch (const budget_error& why) {
    CHECK(std::string(why.what())
              .starts_with("load an adapter: asked for 1.0 KiB (1024 B) on stand-in device, but the budget "
                           "of 0 B holds "));
  }
  constexpr Config small{.memory = device, .device_budget = 1000};
  CHECK_THROWS_AS((void)(open<Mlp, small>(f.folder.file("model.safetensors"), f.gpu)), budget_error);
  CHECK(f.ledger.table().find("on stand-in device:") != std::string::npos);
}

TEST_CASE("What a device does not do is refused by name, and nothing is half done") {
  OnDevice<Mlp> f;
  Session session(f.moved);
  const Held before(f);
  const auto refusal = [](auto action) -> std::string {
    try {
      action();
    } catch (const error& why) {
      return why.code() == ErrorCode::unsupported || why.code() == ErrorCode::wrong_state ? why.what()
                                                                                          : "another code";
    }
    return "nothing";
  };
  CHECK(refusal([&] { session.use_threads(2); }) ==
        "use_threads: the work of this session is done on a device");
  Session on_host(f.model);
  CHECK(refusal([&] { on_host.load(f.tone); }) ==
        "Session: this model is the host's; open it with .memory = tn::device");
  f.gpu->forget_op("Gelu");
  CHECK(refusal([&] { Session none(f.moved); }) ==
        "Session: stand-in device has no function for the op Gelu; open the model on the host");
}

TEST_CASE("A device that fails while weights are restored stops the model, not the program") {
  OnDevice<Mlp> f;
  Session session(f.moved);
  const Tensor x = ramp({4, 6});
  {
    const Guard guard = session.attach<in_place>(f.tone);
    f.gpu->fail_after = 0;
  }
  f.gpu->fail_after = -1;
  CHECK_THROWS_WITH_AS(
      (void)session(x),
      "the device failed while this model's weights were written or restored; open the model again", error);
}

TEST_CASE("A new strength that does not reach the device changes nothing") {
  OnDevice<Mlp> f;
  Session session(f.moved);
  const Tensor x = ramp({4, 6});
  Guard guard = session.attach(f.tone);
  const Tensor before = session(x);
  f.gpu->fail_after = 0;
  CHECK_THROWS_AS(guard.rescale(2), error);
  CHECK(session(x) == before);
  Session on_host(f.model);
  const Guard reference = on_host.attach(f.tone, 2.0);
  guard.rescale(2);
  CHECK(session(x) == on_host(x));
}

TEST_CASE("What the host has no room for does not cost the overlays that are kept") {
  OnDevice<Mlp> f;
  Session session(f.moved);
  session.keep_overlays(1 << 20);
  {
    const Guard guard = session.attach<merged>(f.tone);
  }
  const std::int64_t kept = session.kept_overlay_bytes();
  CHECK(kept > 0);
  f.memory().set_budget(f.memory().current().budgeted());
  f.ledger.set_budget(f.ledger.current().budgeted());
  CHECK_THROWS_AS((void)session.attach<merged>(f.tone), budget_error);
  CHECK(session.kept_overlay_bytes() == kept);
}

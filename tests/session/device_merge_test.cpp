// SPDX-License-Identifier: Apache-2.0
// What the host merges for a device: other kinds than LoRA, factors of 8 bits, measured losses. Overlays have the bytes of
// a session on the host, plans are exact, and what fails leaves all as it was.
#include "session/on_device.hpp"
#include "support/allocation_probe.hpp"

#include <tenon/session/device_merge.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Repeat<"layer", 2, Mlp>; // four slots, after each other
constexpr std::int64_t weight_bytes = 6 * 10 * 4;

/// `f(kind)` for each.
template <class F>
void for_each_kind(F f) {
  for (const std::string_view kind : kind_names) f(kind);
  for (const std::string_view kind : other_kind_names) f(kind);
}
/// `f(mode)` for each mode that writes weights.
template <class F>
void in_writing_modes(F f) {
  f(merged{});
  f(in_place{});
}
template <class A, class B>
[[nodiscard]] bool same_slots(const A& a, const B& b, std::int32_t slots = 4) {
  for (std::int32_t slot = 0; slot < slots; ++slot)
    if (slot_bytes(a, slot) != slot_bytes(b, slot)) return false;
  return true;
}

} // namespace

TEST_CASE("Every kind attached on a device has the bytes of a host session's merge, alone and among others") {
  for (const DType dtype : {DType::f32, DType::bf16})
    for_each_kind([dtype](std::string_view kind) {
      OnDevice<Net> f(dtype);
      const auto adapter = f.load(kind);
      const auto first = f.load("LOKR", 1);
      Session<Net> on_host(f.model);
      Session<Net, on_device> session(f.moved);
      const Tensor x = ramp({5, 6});
      const Tensor base = on_host(x);
      in_writing_modes([&]<class Mode>(Mode) {
        CAPTURE(std::string(kind));
        CAPTURE(std::string(attach_mode_name(Mode::mode)));
        const auto check = [&](const auto&... what) {
          const Guard there = session.attach<Mode>(what...);
          const Guard here = on_host.attach<merged>(what...);
          CHECK(same_slots(session, on_host));
          CHECK(session(x) == on_host(x));
          CHECK_FALSE(session(x) == base);
        };
        check(adapter, 0.5);
        check(f.tone, adapter.scaled(-0.5), first, 0.8);
        CHECK(session(x) == base);
        CHECK(f.has_pristine_weights());
      });
    });
}

TEST_CASE("A weight that the host merges goes to a device in chunks, and nothing else moves") {
  using Wide = Linear<"w", 1200, 2000>;
  for (const std::string_view kind : {"DORA", "LOKR", "LORA8"}) {
    OnDevice<Wide> f;
    const auto adapter = f.load(kind);
    Session<Wide> on_host(f.model);
    Session<Wide, on_device> session(f.moved);
    CHECK(uploaded_rows(weight_matrix(f.model.weights()[0])) == 768); // 4 blocks of 192 rows of 4800 B
    const DeviceCounts before = session.device_counts();
    const DeviceCounts copies = session.adapter_copies();
    const AttachPlan plan = session.plan<merged>(adapter);
    CHECK(plan.host_room.rows == 768 * 4800);
    int calls = 0;
    const Guard guard = session.attach<merged>(adapter, on_progress([&](const AttachProgress&) { ++calls; }));
    CHECK(calls == (kind == "DORA" ? 4 : 3));
    DeviceCounts expected = before;
    expected.uploads += 3;
    expected.upload_bytes += 1200 * 2000 * 4;
    CHECK(session.device_counts() == expected);
    CHECK(session.adapter_copies() == copies);
    const Guard reference = on_host.attach<merged>(adapter);
    CHECK(same_slots(session, on_host, 1));
  }
}

TEST_CASE("Slots of LoRA stay the device's beside those that the host merges") {
  OnDevice<Net> f;
  const auto dora = f.load("DORA", 1);
  Session<Net> on_host(f.model);
  Session<Net, on_device> session(f.moved);
  const DeviceCounts before = session.device_counts();
  const Guard guard = session.attach<merged>(f.tone, dora);
  const DeviceCounts after = session.device_counts();
  CHECK(guard.plan().host_slots == std::vector<std::int32_t>{0});
  CHECK(after.merges - before.merges == 3);
  CHECK(after.upload_bytes - before.upload_bytes == weight_bytes);
  CHECK(session.adapter_copies().upload_bytes == 4 * 4 * (6 + 10) * 4); // A and B of rank 4: tone's alone
  const Guard reference = on_host.attach<merged>(f.tone, dora);
  CHECK(same_slots(session, on_host));
}

TEST_CASE("The loss of a merge on a device is the host's, in every digit") {
  using Tall = Repeat<"layer", 2, Sequential<Linear<"up", 70, 500>, Gelu, Linear<"down", 500, 70>>>;
  for (const DType dtype : {DType::bf16, DType::f16})
    in_writing_modes([dtype]<class Mode>(Mode) {
      OnDevice<Tall> f(dtype);
      const auto dora = f.load("DORA", 2);
      Session<Tall> on_host(f.model);
      Session<Tall, on_device> session(f.moved);
      const Guard there = session.attach<Mode>(f.tone, dora, 0.1, measure_loss);
      const Guard here = on_host.attach<merged>(f.tone, dora, 0.1, measure_loss);
      CHECK(same_slots(session, on_host));
      for (std::int32_t slot = 0; slot < 4; ++slot) {
        const kernels::MergeLoss got = there.loss(slot);
        const kernels::MergeLoss expected = here.loss(slot);
        CHECK(got.weights == 70 * 500);
        CHECK(got.unmoved == expected.unmoved);
        CHECK(got.delta_squared == expected.delta_squared);
        CHECK(got.error_squared == expected.error_squared);
      }
      CHECK(session.adapter_copies().uploads == 0); // the device reads no factor
    });
}

TEST_CASE(
    "Guards of every kind nest on a device and end in any order, the host merging above what it merged") {
  std::vector<int> order{0, 1, 2};
  do {
    OnDevice<Net> f;
    const auto owned =
        open<Net>(f.folder.file("model.safetensors"), {.ledger = &f.ledger, .own_weights = true});
    const auto dora = f.load("DORA");
    const auto loha = f.load("LOHA", 2);
    Session<Net> on_host(owned);
    Session<Net, on_device> session(f.moved);
    const Tensor x = ramp({4, 6});
    const Tensor base = on_host(x);
    static_cast<void>(session(x));
    const Held held(f);
    std::array<std::optional<Guard>, 3> there;
    std::array<std::optional<Guard>, 3> here;
    const auto attach = [&]<class Mode>(Mode, std::size_t i, const auto&... what) {
      there[i].emplace(session.plan<Mode>(what...));
      here[i].emplace(on_host.plan<Mode>(what...));
      CHECK(same_slots(session, on_host));
    };
    attach(merged{}, 0, f.tone);
    attach(in_place{}, 1, dora, 0.7);
    attach(merged{}, 2, f.other, loha.scaled(2));
    CHECK(there[0]->plan().host_slots.empty());
    CHECK(there[2]->plan().host_slots.size() == 4); // above DoRA
    for (const int i : order) {
      there[static_cast<std::size_t>(i)].reset();
      here[static_cast<std::size_t>(i)].reset();
      CHECK(session(x) == on_host(x));
      CHECK(same_slots(session, on_host));
    }
    CHECK(session(x) == base);
    CHECK(f.has_pristine_weights());
    CHECK(Held(f).on_device == held.on_device);
    CHECK(Held(f).blocks == held.blocks);
  } while (std::ranges::next_permutation(order).found);
}

TEST_CASE("An overlay that the host makes again takes no memory for it") {
  OnDevice<Net> f;
  const auto dora = f.load("DORA");
  Session<Net, on_device> session(f.moved);
  Session<Net> on_host(f.model);
  const Tensor x = ramp({4, 6});
  static_cast<void>(session(x));
  std::optional<Guard> below(std::in_place, session.plan<merged>(dora));
  const Guard above = session.attach<merged>(f.other);
  below.reset();
  f.ledger.set_budget(f.ledger.current().budgeted());
  f.memory().set_budget(f.memory().current().budgeted());
  f.gpu->refuse_after = 0;
  const DeviceCounts before = session.device_counts();
  const Held held(f);
  const Tensor y = session(x);
  CHECK(Held(f) == held);
  f.gpu->refuse_after = -1;
  f.ledger.set_budget(-1);
  CHECK(session.device_counts().upload_bytes - before.upload_bytes == 4 * weight_bytes + 4 * 6 * 4);
  const Guard reference = on_host.attach<merged>(f.other);
  CHECK(y == on_host(x));
}

TEST_CASE("A guard of any kind on a device is switched and rescaled in the bytes it has") {
  for_each_kind([](std::string_view kind) {
    in_writing_modes([kind]<class Mode>(Mode) {
      CAPTURE(std::string(kind));
      CAPTURE(std::string(attach_mode_name(Mode::mode)));
      OnDevice<Net> f;
      const auto adapter = f.load(kind);
      Session<Net> on_host(f.model);
      Session<Net, on_device> session(f.moved);
      const auto expect = [&](const auto&... what) {
        const Guard reference = on_host.attach<merged>(what...);
        CHECK(same_slots(session, on_host));
        CHECK(session(ramp({3, 6})) == on_host(ramp({3, 6})));
      };
      Guard guard = session.attach<Mode>(f.tone);
      const std::int64_t overlays = f.memory().current()[Category::overlay];
      guard.switch_to(session.plan<Mode>(adapter, 0.5));
      expect(adapter, 0.5);
      const Held held(f);
      guard.rescale(-2);
      expect(adapter, -1.0);
      CHECK(Held(f) == held);
      guard.switch_to(session.plan<Mode>(f.other, adapter.scaled(0.25)));
      expect(f.other, adapter.scaled(0.25));
      guard.switch_to(session.plan<Mode>(f.other));
      expect(f.other);
      CHECK(f.memory().current()[Category::overlay] == overlays);
      guard.release();
      CHECK(f.has_pristine_weights());
    });
  });
}

TEST_CASE("A plan of any kind states what the host and the device will hold, and a byte less refuses it") {
  for_each_kind([](std::string_view kind) {
    in_writing_modes([kind]<class Mode>(Mode) {
      CAPTURE(std::string(kind));
      CAPTURE(std::string(attach_mode_name(Mode::mode)));
      OnDevice<Net> f;
      const auto adapter = f.load(kind);
      Session<Net, on_device> session(f.moved);
      const auto check = [&](const auto&... what) {
        const Held before(f);
        const AttachPlan plan = session.plan<Mode>(what...);
        CHECK(Held(f) == before);
        {
          const PeakScope host_peak(f.ledger);
          const PeakScope device_peak(f.memory());
          const Guard guard = session.attach<Mode>(what...);
          CHECK(host_peak.peak_above_start() == plan.bytes.total());
          CHECK(device_peak.peak_above_start() == plan.device_bytes.total());
          CHECK(f.ledger.current().total() == before.on_host.total() + plan.bytes.total());
          CHECK(f.memory().current().total() == before.on_device.total() + plan.device_bytes.total());
          CHECK(guard.bytes() == plan.bytes);
        }
        CHECK(Held(f) == before);
        for (Ledger* const ledger : {&f.ledger, &f.memory()}) {
          const BytesByCategory& asked = ledger == &f.ledger ? plan.bytes : plan.device_bytes;
          if (asked.total() == 0) continue;
          ledger->set_budget(ledger->current().budgeted() + asked.total() - 1);
          CHECK_THROWS_AS((void)session.attach<Mode>(what...), budget_error);
          CHECK(Held(f) == before);
          ledger->set_budget(ledger->current().budgeted() + asked.total());
          CHECK_NOTHROW((void)session.attach<Mode>(what...));
          ledger->set_budget(-1);
        }
        CHECK((plan.bytes[Category::scratch] > 0) == !plan.host_slots.empty());
      };
      check(adapter);
      check(f.tone, adapter, 0.5, measure_loss);
    });
  });
}

TEST_CASE("What fails while the host merges for a device leaves device, ledgers and outputs as they were") {
  for (const std::string_view kind : {"DORA", "LOKR", "GLORA", "DIFF8", "LORA"})
    in_writing_modes([kind]<class Mode>(Mode) {
      CAPTURE(std::string(kind));
      CAPTURE(std::string(attach_mode_name(Mode::mode)));
      OnDevice<Net> f;
      const auto adapter = f.load(kind, 2); // the others are the device's
      Session<Net, on_device> session(f.moved);
      const Tensor x = ramp({5, 6});
      const Tensor base = session(x);
      const Held before(f);
      const auto attach = [&] {
        if (kind == "LORA") return session.attach<Mode>(adapter, measure_loss);
        return session.attach<Mode>(f.tone, adapter);
      };
      const auto check = [&](auto allow, ErrorCode expected) {
        int failures = 0;
        const std::uint64_t generation = session.adapter_generation();
        for (int allowed = 0;; ++allowed) {
          allow(allowed);
          std::optional<ErrorCode> failed;
          try {
            const Guard guard = attach();
            allow(-1); // before it ends
          } catch (const error& why) {
            failed = why.code();
          }
          allow(-1);
          if (!failed) break;
          ++failures;
          CHECK(failed == expected);
          CHECK(Held(f) == before);
          CHECK(session.adapter_generation() == generation);
          CHECK(session(x) == base);
          CHECK(f.has_pristine_weights());
        }
        return failures;
      };
      CHECK(check([&](int n) { f.gpu->fail_after = n; }, ErrorCode::device_failed) >= 2);
      const bool takes = session.plan<Mode>(adapter, measure_loss).device_bytes.total() > 0 || kind != "LORA";
      CHECK(check([&](int n) { f.gpu->refuse_after = n; }, ErrorCode::out_of_memory) >= (takes ? 1 : 0));
    });
}

TEST_CASE("Any allocation of the host may fail while it merges for a device") {
  for (const std::string_view kind : {"DORA", "GLORA"}) {
    int failures = 0;
    for (std::int64_t nth = 1;; ++nth) {
      OnDevice<Net> f(DType::f32, failing_source());
      const auto adapter = f.load(kind);
      Session<Net, on_device> session(f.moved);
      const Tensor base = session(ramp({5, 6}));
      const Held before(f);
      bool threw = false;
      bool triggered = false;
      {
        FailAllocations fail(nth);
        try {
          const Guard guard = session.attach<merged>(adapter, 0.5);
        } catch (const std::bad_alloc&) {
          threw = true;
        } catch (const error& problem) {
          threw = problem.code() == ErrorCode::out_of_memory;
        }
        triggered = fail.triggered();
      }
      REQUIRE(threw == triggered);
      if (!triggered) break;
      CHECK(Held(f) == before);
      CHECK(session(ramp({5, 6})) == base);
      ++failures;
    }
    CHECK(failures >= 3);
  }
}

TEST_CASE("A merge for a device that is cancelled or fails within a switch leaves what was attached") {
  for (const std::string_view kind : {"DORA", "IA3", "GLORA"})
    in_writing_modes([kind]<class Mode>(Mode) {
      CAPTURE(std::string(kind));
      CAPTURE(std::string(attach_mode_name(Mode::mode)));
      OnDevice<Net> f;
      const auto adapter = f.load(kind);
      const auto next = f.load("LOHA");
      Session<Net, on_device> session(f.moved);
      const Tensor x = ramp({5, 6});
      Guard guard = session.attach<Mode>(adapter, 0.5);
      const Tensor attached = session(x);
      const Held held(f);
      std::vector<std::vector<std::byte>> bytes;
      for (std::int32_t slot = 0; slot < 4; ++slot) bytes.push_back(slot_bytes(session, slot));
      const auto is_as_before = [&] {
        CHECK(Held(f) == held);
        CHECK(session(x) == attached);
        for (std::int32_t slot = 0; slot < 4; ++slot)
          CHECK(slot_bytes(session, slot) == bytes[static_cast<std::size_t>(slot)]);
      };
      for (int stop = 1; stop <= 4; ++stop) {
        int called = 0;
        CHECK_THROWS_AS(guard.switch_to(session.plan<Mode>(next),
                                        on_progress([&](const AttachProgress&) { return ++called < stop; })),
                        error);
        is_as_before();
      }
      for (int allowed = 0; allowed < 4; ++allowed) {
        f.gpu->fail_after = allowed;
        CHECK_THROWS_AS(guard.switch_to(session.plan<Mode>(next)), error);
        f.gpu->fail_after = -1;
        is_as_before();
        f.gpu->fail_after = allowed;
        CHECK_THROWS_AS(guard.rescale(2), error);
        f.gpu->fail_after = -1;
        is_as_before();
      }
    });
}

TEST_CASE(
    "An overlay that could not be made again on a device stops passes, and is made before the next one") {
  OnDevice<Net> f;
  const auto dora = f.load("DORA");
  Session<Net, on_device> session(f.moved);
  std::optional<Guard> below(std::in_place, session.plan<merged>(dora));
  const Guard above = session.attach<merged>(f.other);
  below.reset();
  for (int pass = 0; pass < 2; ++pass) {
    f.gpu->fail_after = 0;
    CHECK_THROWS_WITH_AS(
        (void)session(ramp({4, 6})),
        "run: a guard ended below another's, whose overlay could not be made again on the device; make room "
        "there, or end that guard too",
        error);
  }
  f.gpu->fail_after = -1;
  Session<Net> host(f.model);
  const Guard same = host.attach<merged>(f.other);
  CHECK(relative_error(session(ramp({4, 6})).values(), host(ramp({4, 6})).values()) < 1e-6);
}

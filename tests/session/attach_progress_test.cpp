// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <stdexcept>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Repeat<"layer", 3, Mlp>; // six slots

} // namespace

TEST_CASE("An attach that writes weights tells each slot and how far it has come") {
  Fixture<Net> f;
  Session session(f.model);
  std::vector<std::string> slots;
  std::int64_t last = 0;
  const auto guard = session.attach<merged>(f.tone, 0.5, on_progress([&](const AttachProgress& now) {
                                              slots.emplace_back(now.slot);
                                              CHECK(now.bytes_done > last);
                                              CHECK(now.bytes_total == 6 * 6 * 10 * 4);
                                              last = now.bytes_done;
                                            }));
  CHECK(slots == std::vector<std::string>{"layer.0.up", "layer.1.up", "layer.2.up", "layer.0.down",
                                          "layer.1.down", "layer.2.down"});
  CHECK(last == 6 * 6 * 10 * 4);
}

TEST_CASE("A side path has nothing to tell") {
  Fixture<Net> f;
  Session session(f.model);
  int calls = 0;
  const Guard guard = session.attach(f.tone, on_progress([&](const AttachProgress&) { ++calls; }));
  CHECK(calls == 0);
}

TEST_CASE("Cancelling at any slot leaves bytes, ledger and session as they were") {
  Fixture<Net> f;
  const auto owned =
      open<Net>(f.folder.file("model.safetensors"), {.ledger = &f.ledger, .own_weights = true});
  const Tensor x = ramp({5, 6});
  const auto cancel_each = [&]<class Mode>(Mode, const Model<Net>& model) {
    Session session(model);
    const Guard below = session.template attach<Mode>(f.other, 0.25);
    const Tensor before = session(x);
    const BytesByCategory held = f.ledger.current();
    const std::uint64_t generation = session.adapter_generation();
    std::vector<std::vector<std::byte>> weights;
    for (std::int32_t slot = 0; slot < 6; ++slot) weights.push_back(slot_bytes(session, slot));
    for (int stop = 1; stop <= 6; ++stop) {
      CAPTURE(stop);
      int calls = 0;
      const auto stops = on_progress([&](const AttachProgress&) { return ++calls < stop; });
      try {
        const Guard guard = session.template attach<Mode>(f.tone, stops);
        FAIL("a cancelled attach came to an end");
      } catch (const error& problem) {
        CHECK(problem.code() == ErrorCode::cancelled);
        CHECK(std::string(problem.what()).starts_with("attach: cancelled at layer."));
        CHECK(problem.place().layer.starts_with("layer."));
      }
      CHECK(calls == stop);
      CHECK(f.ledger.current() == held);
      CHECK(session.adapter_generation() == generation);
      for (std::int32_t slot = 0; slot < 6; ++slot)
        CHECK(slot_bytes(session, slot) == weights[static_cast<std::size_t>(slot)]);
      CHECK(session(x) == before);
    }
  };
  cancel_each(merged{}, f.model);
  cancel_each(in_place{}, owned);
}

TEST_CASE("Cancelling a switch leaves what was attached") {
  Fixture<Net> f;
  const auto owned =
      open<Net>(f.folder.file("model.safetensors"), {.ledger = &f.ledger, .own_weights = true});
  const Tensor x = ramp({5, 6});
  const auto cancel_each = [&]<class Mode>(Mode, const Model<Net>& model) {
    Session session(model);
    const Tensor base = session(x);
    Guard guard = session.template attach<Mode>(f.other, 0.25);
    const Tensor before = session(x);
    const BytesByCategory held = f.ledger.current();
    for (int stop = 1; stop <= 6; ++stop) {
      CAPTURE(stop);
      int calls = 0;
      const auto stops = on_progress([&](const AttachProgress&) { return ++calls < stop; });
      CHECK_THROWS_AS(guard.switch_to(session.template plan<Mode>(f.tone), stops), error);
      CHECK(f.ledger.current() == held);
      CHECK(session(x) == before);
    }
    guard.switch_to(session.template plan<Mode>(f.tone));
    CHECK_FALSE(session(x) == before);
    guard.release();
    CHECK(session(x) == base);
  };
  cancel_each(merged{}, f.model);
  cancel_each(in_place{}, owned);
}

TEST_CASE("What a callback throws goes through, and nothing is attached") {
  Fixture<Net> f;
  Session session(f.model);
  const BytesByCategory held = f.ledger.current();
  CHECK_THROWS_WITH_AS((void)session.attach<merged>(f.tone, on_progress([](const AttachProgress&) {
                                                      throw std::runtime_error("window closed");
                                                    })),
                       "window closed", std::runtime_error);
  CHECK(f.ledger.current() == held);
}

TEST_CASE("Large weights are told in bands of 64 MiB at most") {
  using Large = Linear<"w", 1024, 20480>; // 80 MiB
  Fixture<Large> f;
  Session session(f.model);
  std::vector<std::int64_t> done;
  const Guard guard = session.attach<merged>(
      f.tone, on_progress([&](const AttachProgress& now) { done.push_back(now.bytes_done); }));
  REQUIRE(done.size() == 2);
  CHECK(done[0] <= 64 * MiB);
  CHECK(done[1] == 80 * MiB);
}

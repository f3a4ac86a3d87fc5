// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"
#include "support/allocation_probe.hpp"

#include <doctest/doctest.h>

#include <optional>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("What a guard releases goes back unless the session was told to keep it") {
  Fixture<Mlp> f;
  Session session(f.model);
  const std::int64_t overlay = session.plan<merged>(f.tone).bytes[Category::overlay];
  const auto held = [&] { return session.ledger().current()[Category::overlay]; };
  const std::int64_t start = held();
  {
    const Guard guard = session.attach<merged>(f.tone);
  }
  CHECK(held() == start);
  CHECK(session.kept_overlay_bytes() == 0);

  session.keep_overlays(overlay);
  {
    const Guard guard = session.attach<merged>(f.tone);
  }
  CHECK(held() == start + overlay);
  CHECK(session.kept_overlay_bytes() == overlay);
  {
    PeakScope peak(session.ledger());
    const Guard guard = session.attach<merged>(f.other); // the same slots: in the same bytes
    CHECK(session.kept_overlay_bytes() == 0);
    CHECK(peak.peak()[Category::overlay] == start + overlay);
  }
  session.trim();
  CHECK(held() == start);
  {
    const Guard guard = session.attach<merged>(f.tone);
  }
  CHECK(session.kept_overlay_bytes() == overlay); // the limit stays
  session.keep_overlays(overlay - 1);
  CHECK(held() == start);
}

TEST_CASE("An attach that fails leaves what was kept") {
  Fixture<Mlp> f;
  Session session(f.model);
  const std::int64_t overlay = session.plan<merged>(f.tone).bytes[Category::overlay];
  session.keep_overlays(overlay);
  {
    const Guard guard = session.attach<merged>(f.tone);
  }
  const BytesByCategory before = session.ledger().current();
  CHECK(before[Category::overlay] >= overlay);
  const auto stop = on_progress([](const AttachProgress&) { return false; });
  CHECK_THROWS_AS((void)session.attach<merged>(f.tone, stop), error);
  CHECK(session.ledger().current() == before);
  CHECK(session.kept_overlay_bytes() == overlay);
}

TEST_CASE("What is kept gives way to what a budget has no room for beside it") {
  Fixture<Mlp> f;
  Ledger ledger;
  OverlayPool pool(ledger);
  pool.keep_at_most(1000);
  pool.give(Buffer(ledger, Category::overlay, 600, "first"));
  CHECK(pool.kept_bytes() == 600);
  ledger.set_budget(1000);
  BytesByCategory asked{};
  asked[Category::overlay] = 900;
  CHECK_NOTHROW(pool.require(asked, "second"));
  CHECK(pool.kept_bytes() == 0);
  asked[Category::overlay] = 1001;
  CHECK_THROWS_AS(pool.require(asked, "third"), budget_error);

  pool.give(Buffer(ledger, Category::overlay, 990, "fourth"));
  asked[Category::overlay] = 990; // served by what is kept, but for the nodes beside it
  asked[Category::adapter] = 10;
  CHECK_NOTHROW(pool.require(asked, "fifth"));
  CHECK(pool.kept_bytes() == 990);
  asked[Category::overlay] = 0;
  asked[Category::adapter] = 11; // a side path
  CHECK_NOTHROW(pool.require(asked, "sixth"));
  CHECK(pool.kept_bytes() == 0);
}

TEST_CASE("A switch gives what a new guard would, bit for bit, in the same bytes") {
  Fixture<Mlp> f;
  Session session(f.model);
  const Tensor x = ramp({5, 6});
  const Tensor base = session(x);
  const auto alone = [&](const auto& adapter, double scale) {
    const Guard guard = session.attach<merged>(adapter, scale);
    return slot_bytes(session, 1);
  };
  const auto tone = alone(f.tone, 1.0);
  const auto other = alone(f.other, -0.5);
  const auto half = alone(f.tone, 0.5);
  {
    Guard guard = session.attach<merged>(f.tone);
    CHECK(slot_bytes(session, 1) == tone);
    const BytesByCategory held = session.ledger().current();
    const std::uint64_t generation = session.adapter_generation();
    PeakScope peak(session.ledger());
    for (int i = 0; i < 10; ++i) {
      guard.switch_to(session.plan<merged>(f.other, -0.5));
      CHECK(slot_bytes(session, 1) == other);
      guard.switch_to(session.plan<merged>(f.tone, 0.5)); // a changed scale
      CHECK(slot_bytes(session, 1) == half);
      guard.switch_to(session.plan<merged>(f.tone));
      CHECK(slot_bytes(session, 1) == tone);
    }
    CHECK(session.ledger().current() == held);
    CHECK(peak.peak()[Category::overlay] == held[Category::overlay]);
    CHECK(session.adapter_generation() == generation + 30);
  }
  CHECK(session(x) == base);
}

TEST_CASE("A switch below another guard counts as one on top of it") {
  Fixture<Mlp> f;
  Session session(f.model);
  const Tensor x = ramp({5, 6});
  const Tensor base = session(x);
  const Tensor tone = [&] {
    const Guard guard = session.attach<merged>(f.tone);
    return session(x);
  }();
  const Tensor both = [&] {
    const Guard first = session.attach<merged>(f.tone);
    const Guard second = session.attach<merged>(f.other, 0.25);
    return session(x);
  }();
  {
    Guard first = session.attach<merged>(f.other);
    std::optional<Guard> second;
    second.emplace(session.plan<merged>(f.tone));
    first.switch_to(session.plan<merged>(f.other, 0.25));
    CHECK(session(x) == both);
    SUBCASE("the switched one ends first") {
      first.release();
      CHECK(session(x) == tone);
    }
    SUBCASE("the other one ends first") { second.reset(); }
  }
  CHECK(session(x) == base);
}

TEST_CASE("A switch that cannot be made leaves what was attached") {
  Fixture<Mlp> f;
  Session session(f.model);
  Session elsewhere(f.model);
  Guard guard = session.attach<merged>(f.tone);
  const auto before = slot_bytes(session, 0);
  CHECK_THROWS_WITH_AS(guard.switch_to(session.plan(f.other)),
                       "switch_to: expected a merged guard and a merged plan of the same session; use "
                       "session.plan<merged>(...)",
                       error);
  CHECK_THROWS_AS(guard.switch_to(elsewhere.plan<merged>(f.other)), error);
  const std::int64_t held = session.ledger().current().budgeted();
  session.ledger().set_budget(held);
  CHECK_THROWS_AS(guard.switch_to(session.plan<merged>(f.other)), budget_error); // its nodes, a few bytes
  session.ledger().set_budget(-1);
  CHECK(slot_bytes(session, 0) == before);
  CHECK(session.ledger().current().budgeted() == held);
  guard.release();
  CHECK_THROWS_WITH_AS(guard.switch_to(session.plan<merged>(f.other)),
                       "switch_to: this guard was released; attach anew", error);
}

TEST_CASE("A thousand attaches with kept overlays use one buffer") {
  Fixture<Mlp> f;
  Session session(f.model);
  const Tensor x = ramp({5, 6});
  session.keep_overlays(1 << 20);
  const Tensor base = session(x);
  {
    const Guard guard = session.attach<merged>(f.tone);
  }
  const std::int64_t kept = session.kept_overlay_bytes();
  CHECK(kept > 0);
  for (int i = 0; i < 1000; ++i) {
    const Guard guard = session.attach<merged>(i % 2 == 0 ? f.tone : f.other, i * 0.001);
    static_cast<void>(session.run(x));
  }
  CHECK(session.kept_overlay_bytes() == kept);
  CHECK(session(x) == base);
}

// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"
#include "support/allocation_probe.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <optional>

namespace {

using namespace tenon;
using namespace tenon::test;

// x W^T + s x A^T B^T and x (W + s B A)^T differ by the rounding of the products: a few float ulps of the sums.
constexpr double side_against_merged = 2e-6;

} // namespace

TEST_CASE("A guard changes the output and gives the base back bit for bit") {
  Fixture<Mlp> f;
  Session session(f.model);
  const Tensor x = ramp({5, 6});
  const Tensor base = session(x);
  const std::uint64_t hash = bytes_hash(f.model.checkpoint());
  SUBCASE("as a side path") {
    {
      const Guard guard = session.attach(f.tone, 0.8f);
      CHECK_FALSE(session(x) == base);
    }
    CHECK(session(x) == base);
  }
  SUBCASE("merged") {
    {
      const Guard guard = session.attach<merged>(f.tone, 0.8f);
      CHECK_FALSE(session(x) == base);
    }
    CHECK(session(x) == base);
  }
  CHECK(bytes_hash(f.model.checkpoint()) == hash);
}

TEST_CASE("Side path and merged agree for any scale and number of adapters") {
  Fixture<Mlp> f;
  Session session(f.model);
  const Tensor x = ramp({5, 6});
  for (const double scale : {1.0, 0.37, -1.5, 0.0}) {
    CAPTURE(scale);
    const Tensor side = [&] {
      const Guard guard = session.attach(f.tone, f.other.scaled(-0.5), scale);
      return session(x);
    }();
    const Tensor overlay = [&] {
      const Guard guard = session.attach<merged>(f.tone, f.other.scaled(-0.5), scale);
      return session(x);
    }();
    CHECK(relative_error(side.values(), overlay.values()) < side_against_merged);
  }
}

TEST_CASE("At scale zero a merged weight has the base's bytes") {
  Fixture<Mlp> f;
  Session session(f.model);
  const std::vector<std::byte> base = slot_bytes(session, 0);
  const Guard guard = session.attach<merged>(f.tone, 0.0);
  CHECK(session.slot_weight(0).data != f.model.weights()[0].data);
  CHECK(slot_bytes(session, 0) == base);
}

TEST_CASE("Guards nest and may end in any order") {
  Fixture<Mlp> f;
  Session session(f.model);
  const Tensor x = ramp({3, 6});
  const Tensor base = session(x);
  const auto alone = [&]<class Mode>(const Adapter<Mlp>& adapter, Mode) {
    const Guard guard = session.attach<Mode>(adapter, 0.5);
    return session(x);
  };
  SUBCASE("side paths, the outer one first") {
    const Tensor expected = alone(f.other, side_path{});
    std::optional<Guard> outer;
    outer.emplace(session.plan(f.tone));
    const Guard inner = session.attach(f.other, 0.5);
    outer.reset();
    CHECK(session(x) == expected);
  }
  SUBCASE("overlays, the outer one first: the inner one is made again from the base") {
    const Tensor expected = alone(f.other, merged{});
    std::optional<Guard> outer;
    outer.emplace(session.plan<merged>(f.tone));
    const Guard inner = session.attach<merged>(f.other, 0.5);
    CHECK_FALSE(session(x) == expected);
    outer.reset();
    CHECK(session(x) == expected);
  }
  SUBCASE("overlays, the inner one first: the outer one is still there") {
    const Tensor expected = alone(f.tone, merged{});
    const Guard outer = session.attach<merged>(f.tone, 0.5);
    {
      const Guard inner = session.attach<merged>(f.other);
      CHECK_FALSE(session(x) == expected);
    }
    CHECK(session(x) == expected);
  }
  SUBCASE("three overlays, the middle one first, then the lowest") {
    const Tensor expected = alone(f.tone, merged{});
    std::optional<Guard> lowest;
    std::optional<Guard> middle;
    lowest.emplace(session.plan<merged>(f.other));
    middle.emplace(session.plan<merged>(f.other.scaled(-2)));
    const Guard top = session.attach<merged>(f.tone, 0.5);
    middle.reset();
    lowest.reset();
    CHECK(session(x) == expected);
  }
  SUBCASE("an overlay and a side path together") {
    const Guard overlay = session.attach<merged>(f.tone, 0.5);
    const Tensor one = session(x);
    {
      const Guard side = session.attach(f.other, 0.5);
      CHECK_FALSE(session(x) == one);
    }
    CHECK(session(x) == one);
  }
  CHECK(session(x) == base);
}

TEST_CASE("The same adapter may be attached twice and counts twice") {
  Fixture<Mlp> f;
  Session session(f.model);
  const Tensor x = ramp({3, 6});
  const Tensor doubled = [&] {
    const Guard guard = session.attach<merged>(f.tone, 2.0);
    return session(x);
  }();
  const Guard once = session.attach<merged>(f.tone);
  const Guard again = session.attach<merged>(f.tone);
  CHECK(relative_error(session(x).values(), doubled.values()) < side_against_merged);
}

TEST_CASE("A guard keeps its adapter alive") {
  Fixture<Mlp> f;
  Session session(f.model);
  const Tensor x = ramp({2, 6});
  std::optional<Adapter<Mlp>> adapter = f.tone;
  const Guard guard = session.attach(*adapter);
  const Tensor with = session(x);
  adapter.reset();
  CHECK(session(x) == with);
}

TEST_CASE("Releasing early is the same as the end of the scope and may be repeated") {
  Fixture<Mlp> f;
  Session session(f.model);
  const Tensor x = ramp({2, 6});
  const Tensor base = session(x);
  Guard guard = session.attach<merged>(f.tone);
  CHECK(guard.attached());
  guard.release();
  guard.release();
  CHECK_FALSE(guard.attached());
  CHECK(session(x) == base);
}

TEST_CASE("A guard can be neither copied nor moved and its end cannot throw") {
  static_assert(!std::is_copy_constructible_v<Guard> && !std::is_move_constructible_v<Guard>);
  static_assert(!std::is_copy_assignable_v<Guard> && !std::is_move_assignable_v<Guard>);
  static_assert(std::is_nothrow_destructible_v<Guard>);
  static_assert(noexcept(std::declval<Guard&>().release()));
  static_assert(!std::is_move_constructible_v<Session<Mlp>> && !std::is_copy_constructible_v<Session<Mlp>>);
}

TEST_CASE("The plan states to the byte what the guard will hold") {
  Fixture<Mlp> f;
  Session session(f.model);
  const BytesByCategory before = f.ledger.current();
  const auto check = [&](auto mode, std::int64_t overlay_bytes) {
    using Mode = decltype(mode);
    const AttachPlan plan = session.plan<Mode>(f.tone, f.other);
    CHECK(f.ledger.current() == before);
    CHECK(plan.bytes[Category::overlay] == overlay_bytes);
    CHECK(plan.slots == std::vector<std::int32_t>{0, 1});
    const PeakScope peak(f.ledger);
    const Guard guard = session.attach<Mode>(f.tone, f.other);
    BytesByCategory expected = before;
    for (std::size_t c = 0; c < category_count; ++c) expected.bytes[c] += plan.bytes.bytes[c];
    CHECK(f.ledger.current() == expected);
    CHECK(peak.peak_above_start() == plan.bytes.total());
  };
  check(side_path{}, 0);
  check(merged{}, 2 * 256); // two weights of 60 floats, each on whole cache lines
  CHECK(f.ledger.current() == before);
}

TEST_CASE("A plan may be carried out after other guards have come") {
  Fixture<Mlp> f;
  Session session(f.model);
  const Tensor x = ramp({3, 6});
  AttachPlan plan = session.plan<merged>(f.other, 0.5);
  const Guard first = session.attach<merged>(f.tone);
  const Guard second = session.attach<merged>(f.tone, -1.0);
  const Tensor expected = [&] {
    const Guard guard = session.attach<merged>(f.other, 0.5);
    return session(x);
  }();
  const Guard late(std::move(plan));
  CHECK(session(x) == expected);
}

TEST_CASE("Forward passes and releases allocate nothing") {
  Fixture<Encoder<8, 2>> f;
  Session session(f.model, {.batch = 2, .tokens = 5});
  const std::vector<std::int32_t> ids{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  const Tensor mask({2, 5}, {1, 1, 1, 1, 1, 1, 1, 1, 0, 0});
  const TensorView id_view = view(ids, {2, 5});
  session.run(id_view, mask);
  std::optional<Guard> side;
  std::optional<Guard> lower;
  std::optional<Guard> upper;
  side.emplace(session.plan(f.tone));
  lower.emplace(session.plan<merged>(f.tone));
  upper.emplace(session.plan<merged>(f.other));
  const AllocationProbe probe;
  session.run(id_view, mask);
  lower->release(); // the upper overlay is then made again in the next pass
  session.run(id_view, mask);
  side->release();
  upper->release();
  session.run(id_view, mask);
  const std::int64_t taken = probe.count();
  CHECK(taken == 0);
}

TEST_CASE("A release leaves the ledger where it was") {
  Fixture<Mlp> f;
  Session session(f.model);
  const BytesByCategory start = f.ledger.current();
  {
    const Guard one = session.attach<merged>(f.tone);
    const Guard two = session.attach(f.other);
  }
  CHECK(f.ledger.current() == start);
}

TEST_CASE("A budget refuses an attach before it begins and says what is held and what would fit") {
  Fixture<Mlp> f;
  Session session(f.model);
  const Tensor x = ramp({2, 6});
  const Tensor base = session(x);
  const BytesByCategory held = f.ledger.current();
  f.ledger.set_budget(held.budgeted() + 600);
  const std::int64_t peak = f.ledger.peak_total();
  try {
    const Guard guard = session.attach<merged>(f.tone);
    FAIL("the attach fitted a budget that is too small");
  } catch (const budget_error& problem) {
    const std::string message = problem.what();
    CAPTURE(message);
    CHECK(message.starts_with("attach (merged): asked for "));
    CHECK(message.find("the budget of ") != std::string::npos);
    CHECK(message.find("; at most 600 B (600 B) would fit") != std::string::npos);
  }
  CHECK(f.ledger.current() == held);
  CHECK(f.ledger.peak_total() == peak);
  CHECK(session(x) == base);
}

TEST_CASE("Attach has the strong guarantee whichever of its allocations fails") {
  Fixture<Mlp> f;
  Ledger ledger(failing_source());
  const auto model = open<Mlp>(f.folder.file("model.safetensors"), {.ledger = &ledger});
  Session session(model);
  const Tensor x = ramp({2, 6});
  const Tensor base = session(x);
  const std::uint64_t hash = bytes_hash(model.checkpoint());
  const auto fail_each = [&](auto attach, const Tensor& before) {
    int failures = 0;
    for (std::int64_t nth = 1;; ++nth) {
      const BytesByCategory held = ledger.current();
      const std::uint64_t generation = session.adapter_generation();
      bool threw = false;
      bool triggered = false;
      {
        FailAllocations fail(nth);
        try {
          attach();
        } catch (const std::bad_alloc&) {
          threw = true;
        } catch (const error& problem) {
          threw = problem.code() == ErrorCode::out_of_memory;
        }
        triggered = fail.triggered();
      }
      REQUIRE(threw == triggered);
      if (!triggered) break;
      CHECK(ledger.current() == held);
      CHECK(session(x) == before);
      CHECK(session.adapter_generation() == generation);
      ++failures;
    }
    CHECK(bytes_hash(model.checkpoint()) == hash);
    return failures;
  };
  CHECK(fail_each([&] { const Guard guard = session.attach(f.tone, f.other, 0.5); }, base) >= 3);
  CHECK(fail_each([&] { const Guard guard = session.attach<merged>(f.tone, f.other, 0.5); }, base) >= 4);
  CHECK(session(x) == base);
  {
    Guard guard = session.attach<merged>(f.tone);
    const Tensor tone = session(x);
    CHECK(fail_each([&] { guard.switch_to(session.plan<merged>(f.other)); }, tone) >= 4);
  }
  CHECK(session(x) == base);
}

TEST_CASE("An attach after the checkpoint changed on disk is refused") {
  Fixture<Mlp> f;
  Session session(f.model);
  std::filesystem::resize_file(f.folder.file("model.safetensors"),
                               std::filesystem::file_size(f.folder.file("model.safetensors")) + 8);
  CHECK_THROWS_AS((void)session.attach(f.tone), error);
}

TEST_CASE("Every attach and release changes the adapter generation") {
  Fixture<Mlp> f;
  Session session(f.model);
  const std::uint64_t start = session.adapter_generation();
  {
    const Guard guard = session.attach(f.tone);
    CHECK(session.adapter_generation() == start + 1);
  }
  CHECK(session.adapter_generation() == start + 2);
}

// SPDX-License-Identifier: Apache-2.0
// The strong guarantee for adapters that need more than factors: gains that are made when they are attached (DoRA, IA3),
// scratch that grows (all kinds but LoRA). What fails leaves ledger, session and outputs as they were.
#include "session/fixture.hpp"
#include "support/allocation_probe.hpp"
#include "support/kind_files.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Repeat<"layer", 2, Mlp>; // four slots, after each other

/// A model, an adapter of `kind` and a session that has seen no kind but LoRA.
struct Case {
  TemporaryFolder folder{};
  Ledger ledger{};
  Model<Net> model;
  Adapter<Net> adapter;
  Session<Net> session;
  Tensor x = ramp({5, 6});
  Tensor base;

  explicit Case(std::string_view kind, bool owns_weights = false, MemorySource source = system_memory())
      : ledger(source),
        model(
            (write_checkpoint<Net>(folder.file("model.safetensors")),
             open<Net>(folder.file("model.safetensors"), {.ledger = &ledger, .own_weights = owns_weights}))),
        adapter(load_adapter<Net>(write_kind<Net>(folder.file("adapter"), kind), {.ledger = &ledger})),
        session(model), base(session(x)) {}
};

/// What must not differ after a failure.
struct State {
  BytesByCategory held;
  std::uint64_t generation;
  std::vector<std::vector<std::byte>> weights{};
  Tensor output;

  explicit State(Case& c)
      : held(c.ledger.current()), generation(c.session.adapter_generation()), output(c.session(c.x)) {
    for (std::int32_t slot = 0; slot < 4; ++slot) weights.push_back(slot_bytes(c.session, slot));
  }
  friend bool operator==(const State& a, const State& b) {
    return a.held == b.held && a.generation == b.generation && a.weights == b.weights && a.output == b.output;
  }
};

/// `f(mode)` for each mode that the model allows.
template <class F>
void in_each_mode(bool owns_weights, F f) {
  if (owns_weights) return f(in_place{});
  f(side_path{});
  f(merged{});
}

} // namespace

TEST_CASE("The ledger's peak while any kind is attached is what the plan stated") {
  for (const std::string_view kind : kind_names)
    for (const bool owns_weights : {false, true})
      in_each_mode(owns_weights, [&]<class Mode>(Mode) {
        CAPTURE(std::string(kind));
        CAPTURE(std::string(attach_mode_name(Mode::mode)));
        Case c(kind, owns_weights);
        const BytesByCategory before = c.ledger.current();
        const AttachPlan plan = c.session.plan<Mode>(c.adapter, 0.5);
        CHECK(c.ledger.current() == before);
        CHECK((plan.bytes[Category::scratch] > 0) == (kind != "LORA"));
        CHECK((plan.gain_floats > 0) == (kind == "DORA" || kind == "IA3" || kind == "GLORA"));
        const std::int64_t scratch = c.session.scratch_bytes();
        {
          const PeakScope peak(c.ledger);
          const Guard guard = c.session.attach<Mode>(c.adapter, 0.5);
          CHECK(peak.peak_above_start() == plan.bytes.total());
          BytesByCategory expected = before; // the larger scratch takes the place of the smaller, and stays
          for (std::size_t i = 0; i < category_count; ++i) expected.bytes[i] += plan.bytes.bytes[i];
          if (plan.bytes[Category::scratch] > 0) expected[Category::scratch] -= scratch;
          CHECK(c.ledger.current() == expected);
          CHECK(guard.bytes()[Category::scratch] == 0);
          static_cast<void>(c.session.run(c.x));
          CHECK(c.ledger.current() == expected);
        }
        BytesByCategory after = c.ledger.current();
        after[Category::scratch] = before[Category::scratch];
        CHECK(after == before);
        // the second time there is scratch already
        CHECK(c.session.plan<Mode>(c.adapter).bytes[Category::scratch] == 0);
        CHECK(c.session(c.x) == c.base);
      });
}

TEST_CASE("A budget of one byte less than the plan refuses any kind and leaves all as it was") {
  for (const std::string_view kind : kind_names)
    for (const bool owns_weights : {false, true})
      in_each_mode(owns_weights, [&]<class Mode>(Mode) {
        CAPTURE(std::string(kind));
        CAPTURE(std::string(attach_mode_name(Mode::mode)));
        Case c(kind, owns_weights);
        const State before(c);
        const std::int64_t scratch = c.session.scratch_bytes();
        const std::int64_t room = before.held.budgeted() + c.session.plan<Mode>(c.adapter).bytes.total();
        c.ledger.set_budget(room - 1);
        const std::int64_t peak = c.ledger.peak_total();
        CHECK_THROWS_AS((void)c.session.attach<Mode>(c.adapter), budget_error);
        CHECK(c.ledger.peak_total() == peak);
        CHECK(c.session.scratch_bytes() == scratch);
        CHECK(State(c) == before);
        c.ledger.set_budget(room);
        CHECK_NOTHROW((void)c.session.attach<Mode>(c.adapter));
        CHECK(c.session(c.x) == c.base);
      });
}

TEST_CASE("Any kind cancelled at any moment leaves all as it was") {
  for (const std::string_view kind : kind_names)
    for (const bool owns_weights : {false, true})
      in_each_mode(owns_weights, [&]<class Mode>(Mode) {
        CAPTURE(std::string(kind));
        CAPTURE(std::string(attach_mode_name(Mode::mode)));
        Case c(kind, owns_weights);
        const State before(c);
        const std::int64_t scratch = c.session.scratch_bytes();
        // DoRA's norms and GLoRA's W C are a pass over each weight, and each that is written is another
        const int calls =
            (kind == "DORA" || kind == "GLORA" ? 4 : 0) + (Mode::mode == AttachMode::side_path ? 0 : 4);
        for (int stop = 1; stop <= calls; ++stop) {
          CAPTURE(stop);
          int called = 0;
          std::int64_t total = 0;
          try {
            const Guard guard = c.session.attach<Mode>(c.adapter, on_progress([&](const AttachProgress& now) {
                                                         CHECK(now.bytes_done <= now.bytes_total);
                                                         total = now.bytes_total;
                                                         return ++called < stop;
                                                       }));
            FAIL("a cancelled attach came to an end");
          } catch (const error& problem) {
            CHECK(problem.code() == ErrorCode::cancelled);
          }
          CHECK(called == stop);
          CHECK(total == calls * 6 * 10 * 4);
          CHECK(c.session.scratch_bytes() == scratch);
          CHECK(State(c) == before);
        }
        int called = 0;
        CHECK_NOTHROW(
            (void)c.session.attach<Mode>(c.adapter, on_progress([&](const AttachProgress&) { ++called; })));
        CHECK(called == calls);
      });
}

TEST_CASE("Any kind has the strong guarantee whichever of its allocations fails") {
  for (const std::string_view kind : kind_names)
    in_each_mode(false, [&]<class Mode>(Mode) {
      CAPTURE(std::string(kind));
      CAPTURE(std::string(attach_mode_name(Mode::mode)));
      int failures = 0;
      for (std::int64_t nth = 1;; ++nth) {
        Case c(kind, false, failing_source());
        const State before(c);
        bool threw = false;
        bool triggered = false;
        {
          FailAllocations fail(nth);
          try {
            const Guard guard = c.session.attach<Mode>(c.adapter, 0.5);
          } catch (const std::bad_alloc&) {
            threw = true;
          } catch (const error& problem) {
            threw = problem.code() == ErrorCode::out_of_memory;
          }
          triggered = fail.triggered();
        }
        REQUIRE(threw == triggered);
        if (!triggered) break;
        CHECK(State(c) == before);
        ++failures;
      }
      CHECK(failures >= 3);
    });
}

TEST_CASE("A switch between kinds that fails leaves what was attached") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Case c("LORA");
    const auto next = load_adapter<Net>(write_kind<Net>(c.folder.file("next"), kind, {.rank = 3, .seed = 8}),
                                        {.ledger = &c.ledger});
    Guard guard = c.session.attach<merged>(c.adapter, 0.5);
    const State before(c);
    const int calls = kind == "DORA" ? 8 : 4;
    for (int stop = 1; stop <= calls; ++stop) {
      int called = 0;
      CHECK_THROWS_AS(guard.switch_to(c.session.plan<merged>(next),
                                      on_progress([&](const AttachProgress&) { return ++called < stop; })),
                      error);
      CHECK(State(c) == before);
    }
    c.ledger.set_budget(before.held.budgeted());
    CHECK_THROWS_AS(guard.switch_to(c.session.plan<merged>(next)), budget_error);
    CHECK(State(c) == before);
    c.ledger.set_budget(-1);
    guard.switch_to(c.session.plan<merged>(next));
    const Tensor switched = c.session(c.x);
    guard.release();
    CHECK(c.session(c.x) == c.base);
    const Guard alone = c.session.attach<merged>(next);
    CHECK(c.session(c.x) == switched);
  }
}

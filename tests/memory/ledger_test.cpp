// SPDX-License-Identifier: Apache-2.0
#include "support/allocation_probe.hpp"

#include <tenon/core/units.hpp>
#include <tenon/memory/ledger.hpp>

#include <doctest/doctest.h>

#include <limits>
#include <optional>
#include <thread>
#include <vector>

namespace {

using namespace tenon;

constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();

TEST_CASE("Charges add up by category and peaks stay") {
  Ledger ledger;
  ledger.charge(Category::overlay, 10 * MiB, "attach");
  ledger.charge(Category::adapter, 2 * MiB, "load");
  ledger.discharge(Category::overlay, 10 * MiB);
  ledger.charge(Category::overlay, 4 * MiB, "attach");
  CHECK(ledger.current()[Category::overlay] == 4 * MiB);
  CHECK(ledger.current()[Category::adapter] == 2 * MiB);
  CHECK(ledger.current().total() == 6 * MiB);
  CHECK(ledger.peak()[Category::overlay] == 10 * MiB);
  CHECK(ledger.peak_total() == 12 * MiB);
}

TEST_CASE("The highest total is not the sum of the highest categories") {
  Ledger ledger;
  for (const Category c : {Category::overlay, Category::scratch}) {
    ledger.charge(c, 5 * MiB, "x");
    ledger.discharge(c, 5 * MiB);
  }
  CHECK(ledger.peak().total() == 10 * MiB);
  CHECK(ledger.peak_total() == 5 * MiB);
}

TEST_CASE("A charge that just fits the budget is taken and one byte more is refused") {
  Ledger ledger;
  ledger.set_budget(1000);
  ledger.charge(Category::adapter, 400, "load");
  ledger.charge(Category::scratch, 600, "tile");
  const BytesByCategory before = ledger.current();
  CHECK_THROWS_WITH_AS(ledger.charge(Category::scratch, 1, "one more"),
                       "one more: asked for 1 B (1 B), but the budget of 1000 B holds 1000 B (adapter 400 B, "
                       "scratch 600 B); at most 0 B (0 B) would fit",
                       budget_error);
  CHECK(ledger.current() == before);
  CHECK(ledger.peak_total() == 1000);
}

TEST_CASE("A refusal has its own error code") {
  Ledger ledger;
  ledger.set_budget(0);
  try {
    ledger.charge(Category::scratch, 1, "x");
    FAIL("the charge must be refused");
  } catch (const error& e) {
    CHECK(e.code() == ErrorCode::budget_exceeded);
  }
}

TEST_CASE("Mapped base weights are counted and not budgeted") {
  Ledger ledger;
  ledger.set_budget(1 * MiB);
  ledger.charge(Category::base_mapped, 30 * GiB, "open");
  ledger.charge(Category::adapter, 512 * KiB, "load");
  CHECK(ledger.current().total() == 30 * GiB + 512 * KiB);
  CHECK(ledger.current().budgeted() == 512 * KiB);
  CHECK_THROWS_WITH_AS(
      ledger.charge(Category::overlay, 1 * MiB, "attach"),
      "attach: asked for 1.0 MiB (1048576 B), but the budget of 1.0 MiB holds 512.0 KiB (adapter "
      "512.0 KiB); at most 512.0 KiB (524288 B) would fit",
      budget_error);
}

TEST_CASE("An operation is refused before it begins by all it will take") {
  Ledger ledger;
  ledger.set_budget(10 * MiB);
  ledger.charge(Category::workspace, 4 * MiB, "session");
  BytesByCategory asked;
  asked[Category::overlay] = 5 * MiB;
  asked[Category::scratch] = 1 * MiB;
  asked[Category::base_mapped] = 1 * GiB;
  ledger.require(asked, "attach");
  asked[Category::scratch] += 1;
  CHECK_THROWS_WITH_AS(
      ledger.require(asked, "attach"),
      "attach: asked for 6.0 MiB (6291457 B), but the budget of 10.0 MiB holds 4.0 MiB (workspace "
      "4.0 MiB); at most 6.0 MiB (6291456 B) would fit",
      budget_error);
  CHECK(ledger.current().total() == 4 * MiB);
  CHECK(ledger.peak_total() == 4 * MiB);
}

TEST_CASE("A budget below what is held keeps it and refuses more until it is released") {
  Ledger ledger;
  ledger.charge(Category::overlay, 4 * MiB, "attach");
  ledger.set_budget(1 * MiB);
  CHECK(ledger.budget() == 1 * MiB);
  CHECK(ledger.current().total() == 4 * MiB);
  CHECK_THROWS_AS(ledger.charge(Category::overlay, 1, "attach"), budget_error);
  ledger.discharge(Category::overlay, 4 * MiB);
  ledger.charge(Category::overlay, 1 * MiB, "attach");
  CHECK(ledger.current().total() == 1 * MiB);
}

TEST_CASE("Without a budget everything fits and a number near the largest does not wrap") {
  Ledger ledger;
  ledger.charge(Category::scratch, huge, "all there is");
  ledger.discharge(Category::scratch, huge);
  ledger.set_budget(1 * MiB);
  ledger.charge(Category::adapter, 1 * KiB, "load");
  CHECK_THROWS_AS(ledger.charge(Category::scratch, huge, "a damaged size"), budget_error);
  CHECK(ledger.current().total() == 1 * KiB);
}

TEST_CASE("A peak scope sees what happens inside it alone") {
  Ledger ledger;
  ledger.charge(Category::overlay, 10 * MiB, "before");
  ledger.discharge(Category::overlay, 9 * MiB);
  const PeakScope scope(ledger);
  CHECK(scope.peak()[Category::overlay] == 1 * MiB);
  CHECK(scope.peak_above_start() == 0);
  ledger.charge(Category::scratch, 3 * MiB, "inside");
  ledger.discharge(Category::scratch, 3 * MiB);
  CHECK(scope.peak()[Category::scratch] == 3 * MiB);
  CHECK(scope.peak()[Category::overlay] == 1 * MiB);
  CHECK(scope.peak_above_start() == 3 * MiB);
  CHECK(ledger.peak_total() == 10 * MiB);
}

TEST_CASE("Peak scopes nest") {
  Ledger ledger;
  const auto pulse = [&ledger](std::int64_t bytes) {
    ledger.charge(Category::scratch, bytes, "pulse");
    ledger.discharge(Category::scratch, bytes);
  };
  const PeakScope outer(ledger);
  pulse(5);
  {
    const PeakScope inner(ledger);
    pulse(3);
    CHECK(inner.peak_above_start() == 3);
  }
  pulse(4);
  CHECK(outer.peak_above_start() == 5);
}

TEST_CASE("Peak scopes may end in any order") {
  for (const bool first_goes_first : {true, false}) {
    CAPTURE(first_goes_first);
    Ledger ledger;
    std::optional<PeakScope> first(std::in_place, ledger);
    ledger.charge(Category::overlay, 10, "a");
    std::optional<PeakScope> second(std::in_place, ledger);
    std::optional<PeakScope> third(std::in_place, ledger);
    ledger.charge(Category::overlay, 20, "b");
    CHECK(first->peak_above_start() == 30);
    CHECK(second->peak_above_start() == 20);
    second.reset();
    (first_goes_first ? first : third).reset();
    ledger.charge(Category::overlay, 40, "c");
    CHECK((first_goes_first ? third->peak_above_start() : first->peak_above_start()) ==
          (first_goes_first ? 60 : 70));
  }
}

TEST_CASE("A scope that begins after a release measures from there") {
  Ledger ledger;
  ledger.charge(Category::overlay, 100, "a");
  const PeakScope scope(ledger);
  ledger.discharge(Category::overlay, 60);
  ledger.charge(Category::scratch, 50, "b");
  CHECK(scope.peak_above_start() == 0); // 90 held now, 100 at the start
  ledger.charge(Category::scratch, 20, "c");
  CHECK(scope.peak_above_start() == 10);
}

TEST_CASE("Threads that charge and discharge together leave the ledger as it was") {
  constexpr std::int64_t threads = 8;
  Ledger ledger;
  ledger.charge(Category::adapter, 7, "before");
  const PeakScope scope(ledger);
  {
    std::vector<std::jthread> workers;
    for (std::int64_t t = 0; t < threads; ++t)
      workers.emplace_back([&ledger, t] {
        const auto category = static_cast<Category>(t % static_cast<std::int64_t>(category_count));
        for (int i = 0; i < 2'000; ++i) {
          const PeakScope mine(ledger);
          ledger.charge(category, t + 1, "cycle");
          CHECK(mine.peak()[category] >= t + 1);
          ledger.discharge(category, t + 1);
        }
      });
  }
  BytesByCategory left;
  left[Category::adapter] = 7;
  CHECK(ledger.current() == left);
  CHECK(scope.peak_above_start() > 0);
  CHECK(scope.peak_above_start() <= threads * (threads + 1) / 2);
}

TEST_CASE("Threads that race for a budget never hold more than it together") {
  Ledger ledger;
  ledger.set_budget(100);
  std::vector<std::int64_t> granted(8, 0);
  {
    std::vector<std::jthread> workers;
    for (std::int64_t& mine : granted)
      workers.emplace_back([&ledger, &mine] {
        for (int i = 0; i < 500; ++i) {
          try {
            ledger.charge(Category::overlay, 30, "cycle");
          } catch (const budget_error&) {
            continue;
          }
          ++mine;
          ledger.discharge(Category::overlay, 30);
        }
      });
  }
  std::int64_t all = 0;
  for (const std::int64_t mine : granted) all += mine;
  CHECK(all > 0);
  CHECK(ledger.peak_total() <= 90);
  CHECK(ledger.current().total() == 0);
}

TEST_CASE("The ledger itself allocates nothing") {
  Ledger ledger;
  ledger.set_budget(1 * MiB);
  const test::AllocationProbe probe;
  {
    const PeakScope scope(ledger);
    ledger.charge(Category::scratch, 1 * KiB, "tile");
    ledger.require(ledger.current(), "again");
    ledger.discharge(Category::scratch, 1 * KiB);
  }
  const auto taken = probe.count();
  CHECK(taken == 0);
}

TEST_CASE("The table shows every category with its current and peak bytes") {
  Ledger ledger;
  ledger.set_budget(512 * MiB);
  ledger.charge(Category::base_mapped, 30 * GiB, "open");
  ledger.charge(Category::adapter, 350 * MiB, "load");
  ledger.discharge(Category::adapter, 50 * MiB);
  CHECK(ledger.table() == "category             current        peak\n"
                          "base (mapped)       30.0 GiB    30.0 GiB\n"
                          "base (owned)             0 B         0 B\n"
                          "adapter            300.0 MiB   350.0 MiB\n"
                          "overlay                  0 B         0 B\n"
                          "workspace                0 B         0 B\n"
                          "scratch                  0 B         0 B\n"
                          "total               30.2 GiB    30.3 GiB\n"
                          "budget             512.0 MiB            \n");
}

TEST_CASE("What is held is told by its categories") {
  BytesByCategory held;
  CHECK(held_text(held) == "0 B");
  held[Category::base_mapped] = 1 * GiB;
  CHECK(held_text(held) == "0 B");
  held[Category::adapter] = 2 * MiB;
  held[Category::overlay] = 10 * MiB;
  CHECK(held_text(held) == "12.0 MiB (adapter 2.0 MiB, overlay 10.0 MiB)");
}

TEST_CASE("A program has one ledger for all that names none") {
  CHECK(&process_ledger() == &process_ledger());
  CHECK(process_ledger().budget() < 0);
}

} // namespace

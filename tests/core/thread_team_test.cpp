// SPDX-License-Identifier: Apache-2.0
#include <tenon/core/error.hpp>
#include <tenon/core/thread_team.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

using namespace tenon;

namespace {

struct Counts {
  explicit Counts(std::size_t parts) : of_part(parts) {}
  std::vector<std::atomic<int>> of_part;
  std::atomic<bool> has_strange_thread{false};
  int threads = 1;
};

void count_part(void* job, std::int64_t part, int thread) noexcept {
  auto& counts = *static_cast<Counts*>(job);
  ++counts.of_part[static_cast<std::size_t>(part)];
  if (thread < 0 || thread >= counts.threads) counts.has_strange_thread = true;
}

} // namespace

TEST_CASE("A team does each part of each job once, whatever the number of threads and parts") {
  for (const int threads : {1, 2, 3, 8}) {
    CAPTURE(threads);
    ThreadTeam team(threads);
    CHECK(team.threads() == threads);
    for (const std::size_t parts : {0u, 1u, 2u, 7u, 100u}) {
      CAPTURE(parts);
      for (int job = 0; job < 200; ++job) {
        Counts counts(parts);
        counts.threads = threads;
        team.run(static_cast<std::int64_t>(parts), &count_part, &counts);
        for (const std::atomic<int>& count : counts.of_part) REQUIRE(count == 1);
        REQUIRE_FALSE(counts.has_strange_thread);
      }
    }
  }
}

TEST_CASE("What the parts wrote is seen by the caller, and a sleeping team wakes") {
  ThreadTeam team(4);
  std::vector<std::int64_t> squares(1000);
  const auto square = [](void* job, std::int64_t part, int) noexcept {
    (*static_cast<std::vector<std::int64_t>*>(job))[static_cast<std::size_t>(part)] += part * part;
  };
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5)); // long enough to fall asleep
    team.run(1000, square, &squares);
  }
  for (std::int64_t i = 0; i < 1000; ++i) REQUIRE(squares[static_cast<std::size_t>(i)] == 5 * i * i);
}

TEST_CASE("The parts of one job run on several threads") {
  ThreadTeam team(2);
  std::atomic<int> arrived{0};
  const auto meet = [](void* job, std::int64_t, int) noexcept { // each part waits for the other
    auto& count = *static_cast<std::atomic<int>*>(job);
    ++count;
    while (count < 2) std::this_thread::yield();
  };
  team.run(2, meet, &arrived);
  CHECK(arrived == 2);
}

TEST_CASE("A team of no threads, or of too many, is refused") {
  CHECK_THROWS_WITH_AS(ThreadTeam(0), "threads: expected 1 to 1024, got 0", error);
  CHECK_THROWS_WITH_AS(ThreadTeam(1025), "threads: expected 1 to 1024, got 1025", error);
}

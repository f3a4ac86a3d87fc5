// SPDX-License-Identifier: Apache-2.0
#include <tenon/core/spin_lock.hpp>

#include <doctest/doctest.h>

#include <thread>
#include <type_traits>
#include <vector>

namespace {

using tenon::SpinLock;
using tenon::SpinScope;

TEST_CASE("Threads that share a counter under the lock lose no increment") {
  SpinLock lock;
  long counter = 0; // not atomic: the lock alone protects it, and the thread sanitizer watches
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 20'000; ++i) {
          const SpinScope scope(lock);
          ++counter;
        }
      });
  }
  CHECK(counter == 8 * 20'000);
}

TEST_CASE("A waiting thread gets the lock when its holder lets go") {
  SpinLock lock;
  bool written = false;
  lock.lock();
  std::jthread waiter([&] {
    const SpinScope scope(lock);
    CHECK(written);
  });
  std::this_thread::yield();
  written = true;
  lock.unlock();
}

TEST_CASE("A scope can be neither copied nor moved") {
  static_assert(!std::is_copy_constructible_v<SpinScope> && !std::is_move_constructible_v<SpinScope>);
  static_assert(!std::is_copy_assignable_v<SpinScope> && !std::is_move_assignable_v<SpinScope>);
}

} // namespace

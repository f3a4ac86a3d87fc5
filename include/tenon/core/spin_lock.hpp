// SPDX-License-Identifier: Apache-2.0
// A lock for a handful of instructions. <mutex> would add to the cost of every translation unit; what is guarded
// here (the ledger's six counters) is touched when memory is taken or given back, never in a forward pass.
#pragma once

#include <atomic>

namespace tenon {

/// Meets Lockable's lock/unlock. Never hold it across an allocation or a call out of Tenon.
class SpinLock {
 public:
  void lock() noexcept {
    while (flag_.test_and_set(std::memory_order_acquire)) flag_.wait(true, std::memory_order_relaxed);
  }
  void unlock() noexcept {
    flag_.clear(std::memory_order_release);
    flag_.notify_one();
  }

 private:
  std::atomic_flag flag_{};
};

/// Holds a SpinLock for a scope.
class SpinScope {
 public:
  explicit SpinScope(SpinLock& lock) noexcept : lock_(lock) { lock_.lock(); }
  ~SpinScope() { lock_.unlock(); }
  SpinScope(const SpinScope&) = delete;
  SpinScope& operator=(const SpinScope&) = delete;

 private:
  SpinLock& lock_;
};

} // namespace tenon

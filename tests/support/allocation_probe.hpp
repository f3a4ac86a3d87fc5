// SPDX-License-Identifier: Apache-2.0
// Counts what a thread allocates, and makes one chosen allocation of it fail. Linked into every test program:
// it replaces all forms of operator new and, on glibc without a sanitizer, malloc's family and mmap.
// Read the count before a CHECK, which allocates itself:
//   AllocationProbe probe;
//   session(x);
//   const auto taken = probe.count();
//   CHECK(taken == 0);
#pragma once

#include <tenon/memory/memory_source.hpp>

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TENON_TEST_SANITIZED 1
#elif defined(__has_feature)
#define TENON_TEST_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define TENON_TEST_SANITIZED 0
#endif

namespace tenon::test {

/// Built with a sanitizer: it owns malloc, and its own memory is in the process's figures.
inline constexpr bool under_sanitizer = TENON_TEST_SANITIZED != 0;

/// Whether the probe sees malloc and anonymous mmap too, or operator new alone.
#if defined(__GLIBC__)
inline constexpr bool probe_sees_malloc = !under_sanitizer;
#else
inline constexpr bool probe_sees_malloc = false;
#endif

/// Allocations of this thread since construction: operator new, malloc and its family, anonymous mappings.
class AllocationProbe {
 public:
  AllocationProbe() noexcept;
  [[nodiscard]] std::int64_t count() const noexcept;

 private:
  std::int64_t start_;
};

/// Makes the n-th allocation of this thread after construction fail (1 is the next), and only that one:
/// throwing operator new throws `std::bad_alloc`, its nothrow forms and `failing_source()` return nullptr.
/// Malloc never fails. To try every allocation of an operation, count up until `triggered()` says that none
/// was left. One at a time in a thread.
class FailAllocations {
 public:
  explicit FailAllocations(std::int64_t nth) noexcept;
  ~FailAllocations();
  FailAllocations(const FailAllocations&) = delete;
  FailAllocations& operator=(const FailAllocations&) = delete;

  /// Whether the allocation was reached, and failed.
  [[nodiscard]] bool triggered() const noexcept;
};

/// The system's memory, with each block counted as one allocation by `FailAllocations`.
[[nodiscard]] MemorySource failing_source() noexcept;

} // namespace tenon::test

// SPDX-License-Identifier: Apache-2.0
// Temporary memory of the kernels: a bump allocator over bytes that the caller owns. A kernel takes a
// `Scratch` by value, so that what it takes is given back when it returns: copying a Scratch is a mark,
// leaving the scope is the rewind. Each kernel states its need as a constexpr function; nothing here
// allocates. Cost: 16 bytes, a few instructions a take. A Scratch and its bytes belong to one thread at a
// time.
#pragma once

#include <tenon/memory/memory_source.hpp>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <type_traits>

namespace tenon::kernels {

inline constexpr std::int64_t scratch_alignment = static_cast<std::int64_t>(memory_alignment);

/// Bytes that `take<T>(n)` uses: `n` elements, rounded up to whole cache lines.
template <class T>
[[nodiscard]] constexpr std::int64_t scratch_bytes(std::int64_t n) noexcept {
  const std::int64_t bytes = n * std::int64_t{sizeof(T)};
  return (bytes + scratch_alignment - 1) / scratch_alignment * scratch_alignment;
}

/// Takes that are alive together.
[[nodiscard]] constexpr std::int64_t scratch_sum(std::initializer_list<std::int64_t> takes) noexcept {
  std::int64_t sum = 0;
  for (const std::int64_t bytes : takes) sum += bytes;
  return sum;
}

/// Uses that follow one another over the same bytes.
[[nodiscard]] constexpr std::int64_t scratch_max(std::initializer_list<std::int64_t> uses) noexcept {
  std::int64_t largest = 0;
  for (const std::int64_t bytes : uses) largest = bytes > largest ? bytes : largest;
  return largest;
}

/// What is left of a block of temporary bytes. A block must hold the sum that the kernel's own function
/// states and begin on a 64-byte boundary, or be 63 bytes longer. A larger or a dirty block changes no
/// result.
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(std::span<std::byte> bytes) noexcept
      : next_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  /// `n` elements on a 64-byte boundary, their values unspecified. Precondition: they fit.
  template <class T>
  [[nodiscard]] std::span<T> take(std::int64_t n) noexcept {
    static_assert(std::is_trivially_copyable_v<T>, "tenon::kernels::Scratch holds plain data only");
    if (n <= 0) return {};
    next_ += padding();
    assert(n * std::int64_t{sizeof(T)} <= remaining() &&
           "the scratch is smaller than the kernel's stated need");
    auto* const first = reinterpret_cast<T*>(next_);
    next_ += n * std::int64_t{sizeof(T)};
    return {first, static_cast<std::size_t>(n)};
  }

  [[nodiscard]] std::int64_t remaining() const noexcept { return end_ - next_; }

 private:
  [[nodiscard]] std::ptrdiff_t padding() const noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(next_);
    return static_cast<std::ptrdiff_t>((memory_alignment - address % memory_alignment) % memory_alignment);
  }

  std::byte* next_ = nullptr;
  std::byte* end_ = nullptr;
};

} // namespace tenon::kernels

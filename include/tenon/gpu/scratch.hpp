// SPDX-License-Identifier: Apache-2.0
// Consecutive pieces of a run's scratch: a bump allocator over device memory that the caller owns. Taken by value it is
// a mark, as kernels::Scratch: what a function takes is given back when it returns.
#pragma once

#include <tenon/session/device.hpp>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::gpu {

class DeviceScratch {
 public:
  /// Precondition: `bytes` begins on a boundary of 256.
  explicit DeviceScratch(std::span<std::byte> bytes) noexcept : rest_(bytes) {}

  /// What a piece of so many bytes takes: whole pieces of 256.
  [[nodiscard]] static constexpr std::int64_t rounded(std::int64_t bytes) noexcept {
    return on_device_boundary(bytes);
  }
  /// `count` elements on a boundary of 256, their values unspecified. Precondition: they fit.
  template <class T>
  [[nodiscard]] T* take(std::int64_t count) noexcept {
    const std::int64_t bytes = rounded(count * static_cast<std::int64_t>(sizeof(T)));
    assert(bytes <= std::ssize(rest_) && "the scratch is smaller than the step's stated need");
    T* const taken = reinterpret_cast<T*>(rest_.data());
    rest_ = rest_.subspan(static_cast<std::size_t>(bytes));
    return taken;
  }
  [[nodiscard]] std::span<std::byte> rest() const noexcept { return rest_; }

 private:
  std::span<std::byte> rest_;
};

} // namespace tenon::gpu

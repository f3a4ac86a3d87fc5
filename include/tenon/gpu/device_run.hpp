// SPDX-License-Identifier: Apache-2.0
// What a step's function gets beside its context where it runs on a device.
#pragma once

#include <tenon/gpu/products.hpp>
#include <tenon/gpu/queue.hpp>
#include <tenon/graph/step.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon {

/// All pointers of a StepContext that has one of these are device memory, but for the slot's lists: their nodes lie on
/// the host, and what their terms view on the device.
struct DeviceRun {
  gpu::Queue& queue; ///< of this run's work
  gpu::Products& products;
  std::span<std::byte> scratch{}; ///< device memory, on a boundary of 256, as much as the step asked for
  /// [1], device memory: a step that meets a value it cannot take (an id out of range) writes its number + 1 here
  /// (StepContext::number) and goes on with another value; the session throws when it has the outputs.
  std::int32_t* fault = nullptr;
};

} // namespace tenon

namespace tenon::gpu {

/// Consecutive pieces of a run's scratch, each on a boundary of 256 bytes.
class DeviceScratch {
 public:
  explicit DeviceScratch(std::span<std::byte> bytes) noexcept : rest_(bytes) {}

  [[nodiscard]] static constexpr std::int64_t rounded(std::int64_t bytes) noexcept {
    return (bytes + 255) / 256 * 256;
  }
  template <class T>
  [[nodiscard]] T* take(std::int64_t count) noexcept {
    T* const taken = reinterpret_cast<T*>(rest_.data());
    rest_ = rest_.subspan(static_cast<std::size_t>(rounded(count * static_cast<std::int64_t>(sizeof(T)))));
    return taken;
  }
  [[nodiscard]] std::span<std::byte> rest() const noexcept { return rest_; }

 private:
  std::span<std::byte> rest_;
};

} // namespace tenon::gpu

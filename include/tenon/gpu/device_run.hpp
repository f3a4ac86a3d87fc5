// SPDX-License-Identifier: Apache-2.0
// What a step's function gets beside its context where it runs on a device.
#pragma once

#include <tenon/gpu/products.hpp>
#include <tenon/gpu/queue.hpp>
#include <tenon/gpu/scratch.hpp>
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

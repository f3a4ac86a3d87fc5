// SPDX-License-Identifier: Apache-2.0
// The step of Linear and TiedLinear on a device: y = x W^T + b over the last dimension, with what is attached to its slot
// (slot_product.hpp). Its host twin is layers/linear.hpp.
#pragma once

#include <tenon/gpu/device_run.hpp>
#include <tenon/gpu/slot_product.hpp>
#include <tenon/graph/step.hpp>
#include <tenon/weights/tensor_view.hpp>

#include <cstdint>

namespace tenon::gpu {

inline void linear_step(const StepContext& context) {
  slot_product(context, context.inputs[0].const_matrix(), context.output.matrix(),
               DeviceScratch(context.device->scratch));
}

/// Bytes of device memory, for these extents.
inline std::int64_t linear_step_scratch(const StepContext& context) {
  const TensorView& w = context.weights[0];
  return slot_product_scratch_bytes(context.inputs[0].rows(), w.extent(0), w.extent(1));
}

} // namespace tenon::gpu

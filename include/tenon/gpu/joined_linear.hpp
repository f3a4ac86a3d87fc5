// SPDX-License-Identifier: Apache-2.0
// JoinedLinear on a device: [a | b] W^T + b of two wires, whose rows are put together a tile at a time.
#pragma once

#include <tenon/gpu/tiles.hpp>
#include <tenon/gpu/tokens.hpp>

#include <cstdint>

namespace tenon::gpu {

inline void joined_linear_step(const StepContext& context) {
  const kernels::ConstMatrix a = context.inputs[0].const_matrix();
  const kernels::ConstMatrix b = context.inputs[1].const_matrix();
  gathered_product(context, a.cols + b.cols, [&](std::int64_t first, std::int64_t count, float* to) {
    for_each_index(context.device->queue, count * (a.cols + b.cols),
                   JoinRunsElement{a.row(first), StoredVector(), b.row(first), to, a.cols, b.cols});
  });
}

inline std::int64_t joined_linear_step_scratch(const StepContext& context) {
  const TensorView& w = context.weights[0];
  return gathered_product_scratch_bytes(context.output.rows(), w.extent(0), w.extent(1));
}

} // namespace tenon::gpu

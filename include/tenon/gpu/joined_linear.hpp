// SPDX-License-Identifier: Apache-2.0
// JoinedLinear on a device: [a | b] W^T + b of two wires, whose rows are put together a tile at a time.
#pragma once

#include <tenon/gpu/tiles.hpp>

#include <cstdint>

namespace tenon::gpu {

/// to [count, a_cols + b_cols] = rows of a and b from `first` on, side by side. Item i is one number.
struct JoinRows {
  const float* a; ///< [rows, a_cols]
  const float* b; ///< [rows, b_cols]
  std::int64_t a_cols;
  std::int64_t b_cols;
  std::int64_t first;
  float* to;

  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t row = first + i / (a_cols + b_cols);
    const std::int64_t col = i % (a_cols + b_cols);
    to[i] = col < a_cols ? a[row * a_cols + col] : b[row * b_cols + col - a_cols];
  }
};

inline void joined_linear_step(const StepContext& context) {
  const kernels::ConstMatrix a = context.inputs[0].const_matrix();
  const kernels::ConstMatrix b = context.inputs[1].const_matrix();
  gathered_product(context, a.cols + b.cols, [&](std::int64_t first, std::int64_t count, float* to) {
    for_each_index(context.device->queue, count * (a.cols + b.cols),
                   JoinRows{a.data, b.data, a.cols, b.cols, first, to});
  });
}

inline std::int64_t joined_linear_step_scratch(const StepContext& context) {
  const TensorView& w = context.weights[0];
  return gathered_product_scratch_bytes(context.output.rows(), w.extent(0), w.extent(1));
}

} // namespace tenon::gpu

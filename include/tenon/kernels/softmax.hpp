// SPDX-License-Identifier: Apache-2.0
// Softmax of each row, with the row's largest element subtracted first, so that nothing overflows:
// y_j = exp(x_j - max x) / sum_k exp(x_k - max x). Where exp would underflow, y is exactly 0; the lowest
// float (a masked score) thus gets no weight, unless a whole row is masked, which then is uniform. Cost:
// one exp per element; no scratch. x and y may be the same matrix. Any thread.
#pragma once

#include <tenon/kernels/lane_math.hpp>
#include <tenon/kernels/lanes.hpp>
#include <tenon/kernels/matrix.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <limits>
#include <span>

namespace tenon::kernels {

/// A score that says "ignore this key".
inline constexpr float masked_score = std::numeric_limits<float>::lowest();

/// y = softmax(x) for one row, x and y of the same length.
inline void softmax_row(std::span<const float> x, std::span<float> y) {
  float largest = masked_score;
  for (const float v : x) largest = std::max(largest, v);
  alignas(64) float sums[lane_count] = {};
  visit_lanes(x, masked_score, [&](float* block, std::int64_t begin, std::int64_t count) {
    for (std::int64_t i = 0; i < lane_count; ++i) block[i] -= largest;
    exp_lanes(block);
    constexpr float least = std::numeric_limits<float>::min(); // exp_lanes does not get down to 0
    for (std::int64_t i = 0; i < lane_count; ++i) block[i] -= block[i] > least ? least : block[i];
    std::fill(block + count, block + lane_count, 0.0f);
    for (std::int64_t i = 0; i < lane_count; ++i) sums[i] += block[i];
    std::copy_n(static_cast<const float*>(block), count, y.data() + begin);
  });
  const float inverse = 1.0f / reduce_lanes(sums);
  map_lanes(y, y, [&](float* block, std::int64_t) {
    for (std::int64_t i = 0; i < lane_count; ++i) block[i] *= inverse;
  });
}

/// y [rows, cols] = softmax of each row of x [rows, cols].
inline void softmax(ConstMatrix x, Matrix y) {
  assert(x.rows == y.rows && x.cols == y.cols && "softmax: shapes [n,m] [n,m]");
  for (std::int64_t i = 0; i < x.rows; ++i) softmax_row(x.row_span(i), y.row_span(i));
}

} // namespace tenon::kernels

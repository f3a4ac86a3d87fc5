// SPDX-License-Identifier: Apache-2.0
// Normalisations of rows: layer_norm (Ba et al., arXiv:1607.06450) with weights of any stored type, the
// residual sum before it in the same pass, rms_norm, and the length normalisation of sentence embeddings. Mean and
// variance are two passes in double, so that a row with a large mean loses nothing; each result is within
// 1e-6 of exact. Cost: three reads of x, one write; no scratch. x and y may be the same matrix. Any thread.
#pragma once

#include <tenon/kernels/elementwise.hpp>
#include <tenon/kernels/lanes.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// The `count` weights from `begin` on, as a block; where there are none, `absent` throughout.
inline void weight_lanes(WeightVector weight, float absent, std::int64_t begin, std::int64_t count,
                         float* block) noexcept {
  std::fill_n(block, lane_count, absent);
  if (!weight.empty()) decode(weight.dtype, weight.at(begin), count, block);
}

/// sum_j (x_j - centre)^2, in double.
[[nodiscard]] inline double sum_of_squares(std::span<const float> x, double centre) {
  double sums[lane_count] = {};
  visit_lanes(x, 0.0f, [&](const float* block, std::int64_t, std::int64_t count) {
    double d[lane_count];
    for (std::int64_t i = 0; i < lane_count; ++i) d[i] = static_cast<double>(block[i]) - centre;
    std::fill(d + count, d + lane_count, 0.0);
    for (std::int64_t i = 0; i < lane_count; ++i) sums[i] += d[i] * d[i];
  });
  return reduce_lanes(sums);
}

/// y = (x - mean) / sqrt(variance + eps) * gamma + beta for one row, the variance over all of its elements.
inline void layer_norm_row(std::span<const float> x, WeightVector gamma, WeightVector beta, double eps,
                           std::span<float> y) {
  const auto size = static_cast<double>(x.size());
  double sums[lane_count] = {};
  visit_lanes(x, 0.0f, [&](const float* block, std::int64_t, std::int64_t) {
    for (std::int64_t i = 0; i < lane_count; ++i) sums[i] += static_cast<double>(block[i]);
  });
  const double mean = reduce_lanes(sums) / size;
  const double inverse = 1.0 / std::sqrt(sum_of_squares(x, mean) / size + eps);
  alignas(64) float scale[lane_count];
  alignas(64) float shift[lane_count];
  visit_lanes(x, 0.0f, [&](float* block, std::int64_t begin, std::int64_t count) {
    weight_lanes(gamma, 1.0f, begin, count, scale);
    weight_lanes(beta, 0.0f, begin, count, shift);
    for (std::int64_t i = 0; i < lane_count; ++i)
      block[i] = static_cast<float>((static_cast<double>(block[i]) - mean) * inverse) * scale[i] + shift[i];
    std::copy_n(static_cast<const float*>(block), count, y.data() + begin);
  });
}

/// y [n, width] = layer norm of each row of x [n, width]; gamma and beta [width], each may be absent.
inline void layer_norm(ConstMatrix x, WeightVector gamma, WeightVector beta, double eps, Matrix y) {
  assert(x.rows == y.rows && x.cols == y.cols && "layer_norm: shapes [n,m] [n,m]");
  assert((gamma.empty() || gamma.size == x.cols) && (beta.empty() || beta.size == x.cols) &&
         "layer_norm: one weight per column");
  for (std::int64_t i = 0; i < x.rows; ++i) layer_norm_row(x.row_span(i), gamma, beta, eps, y.row_span(i));
}

/// y = layer_norm(a + b), the sum rounded to float. y may be a or b.
inline void add_layer_norm(ConstMatrix a, ConstMatrix b, WeightVector gamma, WeightVector beta, double eps,
                           Matrix y) {
  assert(a.rows == y.rows && a.cols == y.cols && b.rows == y.rows && b.cols == y.cols &&
         "add_layer_norm: shapes [n,m] [n,m] [n,m]");
  for (std::int64_t i = 0; i < a.rows; ++i) {
    add(a.row_span(i), b.row_span(i), y.row_span(i));
    layer_norm_row(y.row_span(i), gamma, beta, eps, y.row_span(i));
  }
}

/// y = x / sqrt(mean of x^2 + eps) * gamma for each row (Zhang and Sennrich, arXiv:1910.07467); gamma [width] may be
/// absent.
inline void rms_norm(ConstMatrix x, WeightVector gamma, double eps, Matrix y) {
  assert(x.rows == y.rows && x.cols == y.cols && "rms_norm: shapes [n,m] [n,m]");
  assert((gamma.empty() || gamma.size == x.cols) && "rms_norm: one weight per column");
  alignas(64) float scale[lane_count];
  for (std::int64_t i = 0; i < x.rows; ++i) {
    const double mean = sum_of_squares(x.row_span(i), 0.0) / static_cast<double>(x.cols);
    const double inverse = 1.0 / std::sqrt(mean + eps);
    visit_lanes(x.row_span(i), 0.0f, [&](float* block, std::int64_t begin, std::int64_t count) {
      weight_lanes(gamma, 1.0f, begin, count, scale);
      for (std::int64_t k = 0; k < lane_count; ++k)
        block[k] = static_cast<float>(static_cast<double>(block[k]) * inverse) * scale[k];
      std::copy_n(static_cast<const float*>(block), count, y.row(i) + begin);
    });
  }
}

/// Each row divided by its length: y = x / max(|x|, eps), as torch.nn.functional.normalize.
inline void l2_normalize(ConstMatrix x, Matrix y, double eps = 1e-12) {
  assert(x.rows == y.rows && x.cols == y.cols && "l2_normalize: shapes [n,m] [n,m]");
  for (std::int64_t i = 0; i < x.rows; ++i) {
    const double inverse = 1.0 / std::max(std::sqrt(sum_of_squares(x.row_span(i), 0.0)), eps);
    map_lanes(x.row_span(i), y.row_span(i), [&](float* block, std::int64_t) {
      for (std::int64_t k = 0; k < lane_count; ++k)
        block[k] = static_cast<float>(static_cast<double>(block[k]) * inverse);
    });
  }
}

} // namespace tenon::kernels

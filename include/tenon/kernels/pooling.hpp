// SPDX-License-Identifier: Apache-2.0
// Mean over the tokens of each sequence that the mask keeps, as sentence-transformers' pooling:
// sum_t mask_t x_t / max(sum_t mask_t, 1e-9); a sequence with everything masked gives zeros.
// Cost: one read of x; sums in double, 512 bytes of stack; no scratch. Any thread.
#pragma once

#include <tenon/kernels/lanes.hpp>
#include <tenon/kernels/matrix.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// y [width] = mean of the rows of x [tokens, width] that `mask` [tokens] weighs 1; all, if `mask` is empty.
inline void mean_pool_one(ConstMatrix x, std::span<const float> mask, std::span<float> y) {
  const auto weight_of = [&](std::int64_t t) {
    return mask.empty() ? 1.0 : static_cast<double>(mask[static_cast<std::size_t>(t)]);
  };
  double kept = 0.0;
  for (std::int64_t t = 0; t < x.rows; ++t) kept += weight_of(t);
  const double inverse = 1.0 / std::max(kept, 1e-9);
  for (std::int64_t j = 0; j < x.cols; j += lane_count) {
    const std::int64_t count = std::min(lane_count, x.cols - j);
    alignas(64) float block[lane_count] = {};
    double sum[lane_count] = {};
    for (std::int64_t t = 0; t < x.rows; ++t) {
      std::copy_n(x.row(t) + j, count, block);
      const double weight = weight_of(t);
      for (std::int64_t i = 0; i < lane_count; ++i) sum[i] += static_cast<double>(block[i]) * weight;
    }
    for (std::int64_t i = 0; i < lane_count; ++i) block[i] = static_cast<float>(sum[i] * inverse);
    std::copy_n(static_cast<const float*>(block), count, y.data() + j);
  }
}

/// y [batch, width] from x [batch * tokens, width] and `mask` [batch * tokens] of 0 and 1, or empty.
inline void mean_pool(ConstMatrix x, std::span<const float> mask, Matrix y) {
  assert(y.cols == x.cols && (y.rows == 0 || x.rows % y.rows == 0) &&
         "mean_pool: shapes [batch*tokens,width] [batch,width]");
  assert((mask.empty() || static_cast<std::int64_t>(mask.size()) == x.rows) &&
         "mean_pool: one mask value per token");
  if (y.rows == 0) return;
  const std::int64_t tokens = x.rows / y.rows;
  for (std::int64_t i = 0; i < y.rows; ++i) {
    const auto kept =
        mask.empty() ? mask
                     : mask.subspan(static_cast<std::size_t>(i * tokens), static_cast<std::size_t>(tokens));
    mean_pool_one(x.rows_from(i * tokens, tokens), kept, y.row_span(i));
  }
}

} // namespace tenon::kernels

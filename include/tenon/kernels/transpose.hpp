// SPDX-License-Identifier: Apache-2.0
// y = x^T by blocks that stay in the first-level cache. Cost: one read, one write; no scratch. Any thread.
#pragma once

#include <tenon/kernels/matrix.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>

namespace tenon::kernels {

inline constexpr std::int64_t transpose_block = 16;

/// y [cols, rows] = x [rows, cols] turned round. Precondition: they do not overlap.
inline void transpose(ConstMatrix x, Matrix y) noexcept {
  assert(x.rows == y.cols && x.cols == y.rows && "transpose: shapes [m,n] [n,m]");
  for (std::int64_t i = 0; i < x.rows; i += transpose_block)
    for (std::int64_t j = 0; j < x.cols; j += transpose_block) {
      const std::int64_t rows = std::min(transpose_block, x.rows - i);
      const std::int64_t cols = std::min(transpose_block, x.cols - j);
      for (std::int64_t c = 0; c < cols; ++c)
        for (std::int64_t r = 0; r < rows; ++r) y.row(j + c)[i + r] = x.row(i + r)[j + c];
    }
}

} // namespace tenon::kernels

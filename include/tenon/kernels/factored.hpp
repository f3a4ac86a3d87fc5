// SPDX-License-Identifier: Apache-2.0
// Blocks of what a stored matrix or a product of two is (delta_term.hpp), a few rows at a time, so that
// neither is ever formed as a whole. Each row depends on the factors alone, to the bit: not on which rows are
// asked for together. Cost: rank operations an element for a product, one for a stored matrix. One thread.
#pragma once

#include <tenon/kernels/delta_term.hpp>
#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/weight_tile.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>

namespace tenon::kernels {

inline constexpr std::int64_t delta_strip_rows = 16; ///< of Delta, at most, made together
inline constexpr std::int64_t delta_depth = 256;     ///< rank taken together; a longer one in parts

/// Scratch of a strip's products, for any factors of a weight [out, in].
[[nodiscard]] constexpr std::int64_t strip_product_scratch_bytes(std::int64_t out, std::int64_t in) noexcept {
  const std::int64_t most = std::max({out, in, delta_depth});
  return scratch_sum({scratch_bytes<float>(delta_strip_rows * delta_depth),
                      multiply_scratch_bytes(delta_strip_rows, most, most)});
}

/// to += alpha times the block of what `f` forms whose first element is (row, col).
inline void add_factored(const VectorKernels& kernels, const Factored& f, std::int64_t row, std::int64_t col,
                         float alpha, Matrix to, Scratch scratch) {
  if (!f.is_product()) {
    for (std::int64_t r = 0; r < to.rows; ++r)
      visit_row(kernels, f.left.block(row + r, col, 1, to.cols), 0,
                [&](std::int64_t j, std::int64_t count, const float* values) {
                  for (std::int64_t k = 0; k < count; ++k) to.row(r)[j + k] += alpha * values[k];
                });
    return;
  }
  assert(f.left.cols == f.right.rows && "Factored: shapes [rows,rank] [rank,cols]");
  const auto room = scratch.take<float>(delta_strip_rows * delta_depth);
  for (std::int64_t k = 0; k < f.left.cols; k += delta_depth) {
    const std::int64_t depth = std::min(delta_depth, f.left.cols - k);
    const Matrix left{room.data(), to.rows, depth, depth};
    decode_rows(kernels, f.left.block(row, k, to.rows, depth), 0, left);
    multiply_nn(left, f.right.block(k, col, depth, to.cols), alpha, to, scratch, kernels);
  }
}

} // namespace tenon::kernels

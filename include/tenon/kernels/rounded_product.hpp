// SPDX-License-Identifier: Apache-2.0
// c += a b^T for a weight b of bfloat16, with a rounded to bfloat16 first, as frameworks do that keep activations in that
// type: half the time of a product of floats on a processor that multiplies pairs (AVX512_BF16), a third of the time of
// the exact one on a matrix unit (AMX). Sums are floats. The weight's rows are read in place; a is rounded, turned round
// and packed, once for all threads. Each element depends on its row and column alone. Cost: 2 m n k flops; scratch as
// `multiply_nt`. Threads share the rows of a to pack them, then the rows of b.
#pragma once

#include <tenon/kernels/amx_product.hpp>
#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/panels.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/weight_tile.hpp>
#include <tenon/kernels/workers.hpp>

#include <algorithm>
#include <cstdint>

namespace tenon::kernels {

inline constexpr std::int64_t rounded_depth = packed_depth(1); ///< of k, packed together

/// bfloat16 numbers of the panels of a [rows, depth].
[[nodiscard]] constexpr std::int64_t rounded_elements(std::int64_t rows, std::int64_t depth) noexcept {
  return panel_floats((depth + 1) / 2 * 2, rows);
}

/// Panels of pairs of a^T, for a [rows, depth]: a column of a panel is a row of a. What is past the last row or the depth
/// is zero.
inline void pack_rounded(const VectorKernels& kernels, ConstMatrix a, std::uint16_t* to) noexcept {
  constexpr std::int64_t width = max_panel_width;
  constexpr std::int64_t step = 32; // of the depth, turned round together
  alignas(64) float turned[step * width];
  for (std::int64_t i = 0; i < a.rows; i += width) {
    const std::int64_t rows = std::min(width, a.rows - i);
    if (rows < width) std::fill_n(turned, step * width, 0.0f);
    for (std::int64_t k = 0; k < a.cols; k += step) {
      const std::int64_t depth = std::min(step, a.cols - k);
      const std::int64_t even = (depth + 1) / 2 * 2;
      transpose(a.rows_from(i, rows).cols_from(k, depth), turned, width);
      if (even > depth) std::fill_n(turned + depth * width, width, 0.0f);
      kernels.round_pairs({turned, even, width, width}, to);
      to += even * width;
    }
  }
}

/// c [m, n] += alpha (b [n, depth] panels [depth, m])^T for the panels of m rows of a.
inline void multiply_rounded_panels(const VectorKernels& kernels, WeightMatrix b, const std::uint16_t* panels,
                                    float alpha, Matrix c, Scratch scratch) {
  constexpr std::int64_t width = max_panel_width;
  const std::int64_t tile_rows = std::min(c.cols, gemm_tile_rows);
  const auto turned = scratch.take<float>(tile_rows * width);
  for (std::int64_t j = 0; j < c.cols; j += tile_rows) {
    const std::int64_t rows = std::min(tile_rows, c.cols - j);
    const WeightMatrix next = b.block(j + rows, 0, std::min(tile_rows, c.cols - j - rows), b.cols);
    for (std::int64_t i = 0; i < c.rows; i += width) {
      const Matrix part{turned.data(), rows, std::min(width, c.rows - i), width};
      std::fill_n(part.data, rows * width, 0.0f);
      const Matrix sums = c.rows_from(i, part.cols).cols_from(j, rows);
      fetch(sums);
      kernels.multiply_pairs(b.block(j, 0, rows, b.cols), panels + rounded_elements(i, b.cols), alpha, part,
                             share_of(next, i, part.cols, c.rows));
      kernels.add_transposed(part, sums);
    }
  }
}

/// c [m, n] += alpha a [m, k] b [n, k]^T, a rounded to bfloat16. Preconditions: b is bfloat16; `kernels` multiplies pairs;
/// c overlaps neither.
inline void multiply_rounded(const VectorKernels& kernels, ConstMatrix a, WeightMatrix b, float alpha,
                             Matrix c, Workers workers) {
  const std::int64_t step = even_part(a.cols, rounded_depth, 32);
  const auto panels = workers.take<std::uint16_t>(rounded_elements(std::min(a.rows, amx_product_rows), step));
  for (std::int64_t i = 0; i < a.rows; i += amx_product_rows)
    for (std::int64_t k = 0; k < a.cols; k += step) {
      const ConstMatrix some =
          a.rows_from(i, std::min(amx_product_rows, a.rows - i)).cols_from(k, std::min(step, a.cols - k));
      workers.share(some.rows, max_panel_width, 8 * some.cols,
                    [&](std::int64_t first, std::int64_t count, Scratch) {
                      pack_rounded(kernels, some.rows_from(first, count),
                                   panels.data() + rounded_elements(first, some.cols));
                    });
      workers.share(b.rows, gemm_tile_rows, some.rows * some.cols,
                    [&](std::int64_t first, std::int64_t count, Scratch scratch) {
                      multiply_rounded_panels(kernels, b.block(first, k, count, some.cols), panels.data(),
                                              alpha, c.rows_from(i, some.rows).cols_from(first, count),
                                              scratch);
                    });
    }
}

} // namespace tenon::kernels

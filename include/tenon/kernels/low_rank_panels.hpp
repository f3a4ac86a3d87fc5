// SPDX-License-Identifier: Apache-2.0
// The side path's two products where there are as many rows as ranks or more: A and B are turned into panels, and the rows
// of x and y stay where they lie. low_rank.hpp, which chooses, has those for fewer rows, which turn the rows round; both add
// the same numbers up in the same order. Cost: 2 rows rank flops for each input and output, the ranks rounded up to
// whole panels in the first product.
#pragma once

#include <tenon/kernels/gather_b.hpp>
#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/panels.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/weight_tile.hpp>
#include <tenon/kernels/workers.hpp>

#include <algorithm>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// Scratch of `shrink_by_panels` and `expand_by_panels`, of one thread, for so many ranks and inputs.
[[nodiscard]] constexpr std::int64_t low_rank_panel_scratch_bytes(std::int64_t rank,
                                                                  std::int64_t in) noexcept {
  const std::int64_t depth = std::min(in, gemm_depth);
  const std::int64_t shrinking = scratch_sum(
      {scratch_bytes<float>(panel_floats(depth, rank)), scratch_bytes<float>(max_panel_width * depth)});
  const std::int64_t expanding = scratch_sum({2 * scratch_bytes<float>(max_panel_width * rank),
                                              scratch_bytes<float>(gemm_tile_rows * max_panel_width)});
  return scratch_max({shrinking, expanding});
}

/// Panels [depth, rank] of A^T, for a range of all ranks and the inputs from `col` on.
inline void make_panels_of_ranks(const VectorKernels& kernels, std::span<const LowRankTerm> terms,
                                 std::int64_t begin, std::int64_t rank, std::int64_t col, std::int64_t depth,
                                 std::span<float> room, float* panels) {
  for (std::int64_t p = 0; p < rank; p += kernels.width) {
    const Matrix some{room.data(), std::min(kernels.width, rank - p), depth, depth};
    visit_ranks(terms, begin + p, some.rows,
                [&](const LowRankTerm& term, std::int64_t first, std::int64_t count, std::int64_t at) {
                  for (std::int64_t r = 0; r < count; ++r)
                    kernels.decode(term.a.dtype, term.a.at(first + r, col), depth, some.row(at + r));
                });
    make_transposed_panels(some, kernels.width, panels + p * depth);
  }
}

/// shrunk [x.rows, rank], whose rows have room for whole panels, = x A^T for a range of all ranks.
inline void shrink_by_panels(const VectorKernels& kernels, ConstMatrix x, std::span<const LowRankTerm> terms,
                             std::int64_t begin, Matrix shrunk, Workers workers) {
  const std::int64_t depth_step = even_part(x.cols, gemm_depth, 8);
  const auto panels = workers.take<float>(panel_floats(depth_step, shrunk.cols, kernels.width));
  const auto room = workers.take<float>(kernels.width * depth_step);
  std::fill_n(shrunk.data, shrunk.rows * shrunk.stride, 0.0f);
  for (std::int64_t k = 0; k < x.cols; k += depth_step) {
    const std::int64_t depth = std::min(depth_step, x.cols - k);
    make_panels_of_ranks(kernels, terms, begin, shrunk.cols, k, depth, room, panels.data());
    workers.share(x.rows, kernels.rows, 2 * shrunk.cols * depth,
                  [&](std::int64_t first, std::int64_t count, Scratch) {
                    const ConstMatrix some = x.rows_from(first, count).cols_from(k, depth);
                    for (std::int64_t p = 0; p < shrunk.cols; p += kernels.width)
                      kernels.multiply_panel(some, panels.data() + p * depth, 1.0f,
                                             shrunk.rows_from(first, count).cols_from(p, kernels.width));
                  });
  }
}

/// y [rows, some of out] += shrunk [rows, rank] (rows of B from `row` on)^T, each term times its scale, for a range of all
/// ranks.
inline void expand_by_panels(const VectorKernels& kernels, std::span<const LowRankTerm> terms,
                             std::int64_t begin, std::int64_t row, ConstMatrix shrunk, Matrix y,
                             Scratch scratch) {
  const auto gathered = scratch.take<float>(kernels.width * shrunk.cols);
  const auto panel = scratch.take<float>(kernels.width * shrunk.cols);
  const auto tile = scratch.take<float>(gemm_tile_rows * kernels.width);
  for (std::int64_t j = 0; j < y.cols; j += kernels.width) {
    const Matrix b{gathered.data(), std::min(kernels.width, y.cols - j), shrunk.cols, shrunk.cols};
    gather_b(kernels, terms, begin, row + j, b);
    make_transposed_panels(b, kernels.width, panel.data());
    multiply_one_panel(kernels, shrunk, panel.data(), 1.0f, y.cols_from(j, b.rows), tile);
  }
}

} // namespace tenon::kernels

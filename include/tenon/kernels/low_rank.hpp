// SPDX-License-Identifier: Apache-2.0
// The LoRA side path (Hu et al., arXiv:2106.09685, section 4.1): y += sum_i s_i (x A_i^T) B_i^T. The product
// B_i A_i is never formed, and the base weight is not looked at. The ranks of all terms are laid end to end,
// so that several adapters are one pair of thin products; what is held between the two lies as the second one
// reads it. Where there are fewer rows than ranks, the rows are turned into panels, else the factors
// (low_rank_panels.hpp). Rows go through in tiles, and so does a long rank. Cost: 2 rows rank (in + out)
// flops per term; at most 712 KiB of scratch a thread, whatever the number of rows and of terms, their ranks
// and dtypes. Threads share the rows of x in the first product and those of B in the second.
#pragma once

#include <tenon/kernels/gather_b.hpp>
#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/low_rank_panels.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/panels.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/weight_tile.hpp>
#include <tenon/kernels/workers.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <span>

namespace tenon::kernels {

inline constexpr std::int64_t low_rank_tile = gemm_panels; ///< rows of x taken together
inline constexpr std::int64_t low_rank_depth = 256;        ///< rank taken together; a longer one in parts

/// Scratch of `low_rank_add` for x [rows, in], y [rows, out], any terms. Grows with each of them.
[[nodiscard]] constexpr std::int64_t low_rank_scratch_bytes(std::int64_t rows, std::int64_t out,
                                                            std::int64_t in) noexcept {
  const std::int64_t tile = std::min(rows, low_rank_tile);
  const std::int64_t depth = std::min(in, gemm_depth);
  const std::int64_t tile_rows = std::min(out, gemm_tile_rows);
  const std::int64_t shrinking = scratch_sum(
      {scratch_bytes<float>(gemm_tile_rows * depth), scratch_bytes<float>(panel_floats(depth, tile))});
  const std::int64_t expanding = scratch_sum(
      {scratch_bytes<float>(tile_rows * low_rank_depth), scratch_bytes<float>(tile_rows * max_panel_width)});
  return scratch_sum({scratch_bytes<float>(panel_floats(low_rank_depth, tile)),
                      scratch_max({shrinking, expanding,
                                   low_rank_panel_scratch_bytes(std::min(tile, low_rank_depth), in)})});
}

/// shrunk (panels [rank, x.rows]) = A x^T for a range of all ranks.
inline void shrink(const VectorKernels& kernels, ConstMatrix x, std::span<const LowRankTerm> terms,
                   std::int64_t begin, std::int64_t rank, float* shrunk, Scratch scratch) {
  std::fill_n(shrunk, panel_floats(rank, x.rows, kernels.width), 0.0f);
  const std::int64_t depth_step = even_part(x.cols, gemm_depth, 8);
  const auto decoded = scratch.take<float>(gemm_tile_rows * depth_step);
  const auto panels = scratch.take<float>(panel_floats(depth_step, x.rows, kernels.width));
  for (std::int64_t k = 0; k < x.cols; k += depth_step) {
    const std::int64_t depth = std::min(depth_step, x.cols - k);
    make_transposed_panels(x.cols_from(k, depth), kernels.width, panels.data());
    visit_ranks(
        terms, begin, rank,
        [&](const LowRankTerm& term, std::int64_t first, std::int64_t count, std::int64_t at) {
          for (std::int64_t r = 0; r < count; r += gemm_tile_rows) {
            const std::int64_t rows = std::min(gemm_tile_rows, count - r);
            const ConstMatrix tile = float_tile(kernels, term.a.block(first + r, k, rows, depth), decoded);
            for (std::int64_t i = 0; i < x.rows; i += kernels.width) // the zeros of the last panel stay zeros
              kernels.multiply_panel(
                  tile, panels.data() + i * depth, 1.0f,
                  {shrunk + i * rank + (at + r) * kernels.width, rows, kernels.width, kernels.width});
          }
        });
  }
}

/// y [rows, some of out] += (B shrunk)^T for the rows of B from `row` on, each term times its scale, for the
/// same range of ranks.
inline void expand(const VectorKernels& kernels, std::span<const LowRankTerm> terms, std::int64_t begin,
                   std::int64_t rank, std::int64_t row, const float* shrunk, Matrix y, Scratch scratch) {
  const std::int64_t tile_rows = std::min(y.cols, gemm_tile_rows);
  const auto gathered = scratch.take<float>(tile_rows * rank);
  const auto turned = scratch.take<float>(tile_rows * kernels.width);
  for (std::int64_t j = 0; j < y.cols; j += tile_rows) {
    const Matrix b{gathered.data(), std::min(tile_rows, y.cols - j), rank, rank};
    gather_b(kernels, terms, begin, row + j, b);
    for (std::int64_t i = 0; i < y.rows; i += kernels.width) {
      const Matrix part{turned.data(), b.rows, std::min(kernels.width, y.rows - i), kernels.width};
      std::fill_n(part.data, part.rows * part.stride, 0.0f);
      kernels.multiply_panel(b, shrunk + i * rank, 1.0f, part);
      kernels.add_transposed(part, y.rows_from(i, part.cols).cols_from(j, b.rows));
    }
  }
}

/// y [some of out] += scale (rows of B from `row` on) shrunk, of which row i is multiplied by its gain.
inline void expand_streamed(const VectorKernels& kernels, const LowRankTerm& term, WeightMatrix b,
                            std::int64_t row, const float* shrunk, float* y) noexcept {
  if (term.row_gain == nullptr) return kernels.dot_rows(b, shrunk, term.scale, y);
  constexpr std::int64_t block = 64;
  float sums[block];
  for (std::int64_t i = 0; i < b.rows; i += block) {
    const std::int64_t count = std::min(block, b.rows - i);
    std::fill_n(sums, count, 0.0f);
    kernels.dot_rows(b.block(i, 0, count, b.cols), shrunk, term.scale, sums);
    for (std::int64_t k = 0; k < count; ++k) y[i + k] += term.row_gain[row + i + k] * sums[k];
  }
}

/// A few rows of x: A and B are read as they lie.
inline void low_rank_add_streamed(const VectorKernels& kernels, ConstMatrix x,
                                  std::span<const LowRankTerm> terms, Matrix y, std::span<float> room,
                                  const Workers& workers) {
  const Matrix shrunk{room.data(), x.rows, low_rank_depth, low_rank_depth};
  for (const LowRankTerm& term : terms)
    for (std::int64_t r = 0; r < term.a.rows; r += low_rank_depth) {
      const std::int64_t rank = std::min(low_rank_depth, term.a.rows - r);
      workers.share(rank, 4, x.rows * x.cols, [&](std::int64_t first, std::int64_t count, Scratch) {
        for (std::int64_t i = 0; i < x.rows; ++i) {
          std::fill_n(shrunk.row(i) + first, count, 0.0f);
          kernels.dot_rows(term.a.block(r + first, 0, count, x.cols), x.row(i), 1.0f, shrunk.row(i) + first);
          if (term.rank_gain == nullptr) continue;
          for (std::int64_t k = first; k < first + count; ++k) shrunk.row(i)[k] *= term.rank_gain[r + k];
        }
      });
      const RowWindow all = row_window(term, 0, y.cols);
      workers.share(all.count, 4, x.rows * rank, [&](std::int64_t first, std::int64_t count, Scratch) {
        const WeightMatrix b = term.b.block(all.row + first, r, count, rank);
        for (std::int64_t i = 0; i < x.rows; ++i)
          expand_streamed(kernels, term, b, all.row + first, shrunk.row(i), y.row(i) + all.begin + first);
      });
    }
}

/// y [rows, out] += sum_i s_i (x [rows, in] A_i^T) B_i^T, with the terms' gains and for the outputs that each
/// has. Precondition: y overlaps nothing else.
inline void low_rank_add(ConstMatrix x, std::span<const LowRankTerm> terms, Matrix y, Workers workers,
                         const VectorKernels& kernels = vector_kernels()) {
  const auto shrunk = workers.take<float>(panel_floats(low_rank_depth, std::min(x.rows, low_rank_tile)));
  const std::int64_t ranks = total_rank(terms);
  for (std::int64_t i = 0; i < x.rows; i += low_rank_tile) {
    const ConstMatrix rows = x.rows_from(i, std::min(low_rank_tile, x.rows - i));
    const Matrix out = y.rows_from(i, rows.rows);
    if (rows.rows <= gemm_few_rows) {
      low_rank_add_streamed(kernels, rows, terms, out, shrunk, workers);
      continue;
    }
    for (std::int64_t r = 0; r < ranks; r += low_rank_depth) {
      const std::int64_t rank = std::min(low_rank_depth, ranks - r);
      if (rows.rows >= rank) {
        const Matrix product{shrunk.data(), rows.rows, rank, panel_floats(1, rank, kernels.width)};
        shrink_by_panels(kernels, rows, terms, r, product, workers);
        workers.share(out.cols, kernels.width, 2 * rank * rows.rows,
                      [&](std::int64_t first, std::int64_t count, Scratch scratch) {
                        expand_by_panels(kernels, terms, r, first, product, out.cols_from(first, count),
                                         scratch);
                      });
        continue;
      }
      workers.share(rows.rows, kernels.width, 2 * rank * x.cols,
                    [&](std::int64_t first, std::int64_t count, Scratch scratch) {
                      shrink(kernels, rows.rows_from(first, count), terms, r, rank,
                             shrunk.data() + first * rank, scratch);
                    });
      workers.share(out.cols, gemm_tile_rows, 2 * rank * rows.rows,
                    [&](std::int64_t first, std::int64_t count, Scratch scratch) {
                      expand(kernels, terms, r, rank, first, shrunk.data(), out.cols_from(first, count),
                             scratch);
                    });
    }
  }
}

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// The LoRA side path (Hu et al., arXiv:2106.09685, section 4.1): y += sum_i s_i (x A_i^T) B_i^T. The product
// B_i A_i is never formed, and the base weight is not looked at. Rows go through in tiles, and so does a long
// rank, so that what is held between the two products is a tile of [rows, rank].
// Cost: 2 rows rank (in + out) flops per term; at most 576 KiB of scratch, whatever the number of rows and of
// terms, their ranks and dtypes. One thread.
#pragma once

#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// Rows of x taken together: enough that decoding A and B once per tile costs little beside the products.
inline constexpr std::int64_t low_rank_tile = 256;
/// Rank taken together; a longer one is added in parts.
inline constexpr std::int64_t low_rank_depth = 128;

/// Scratch of `low_rank_add` for x [rows, in], y [rows, out] and terms of at most `max_rank`. Grows with
/// each; from a `max_rank` of 128 on it serves any rank.
[[nodiscard]] constexpr std::int64_t low_rank_scratch_bytes(std::int64_t rows, std::int64_t out,
                                                            std::int64_t in, std::int64_t max_rank) noexcept {
  const std::int64_t tile = std::min(rows, low_rank_tile);
  const std::int64_t depth = std::min(max_rank, low_rank_depth);
  return scratch_sum(
      {scratch_bytes<float>(tile * depth),
       scratch_max({multiply_scratch_bytes(tile, depth, in), multiply_scratch_bytes(tile, out, depth)})});
}

/// y += s (x A^T) B^T for one tile of rows.
inline void add_low_rank_rows(ConstMatrix x, const LowRankTerm& term, Matrix y, Scratch scratch) {
  const std::int64_t depth = std::min(term.a.rows, low_rank_depth);
  const auto room = scratch.take<float>(x.rows * depth);
  for (std::int64_t r = 0; r < term.a.rows; r += depth) {
    const std::int64_t rank = std::min(depth, term.a.rows - r);
    const Matrix shrunk{room.data(), x.rows, rank, rank};
    std::fill_n(shrunk.data, x.rows * rank, 0.0f);
    multiply_nt(x, term.a.block(r, 0, rank, x.cols), 1.0f, shrunk, scratch);
    multiply_nt(shrunk, term.b.block(0, r, y.cols, rank), term.scale, y, scratch);
  }
}

/// y [rows, out] += sum_i s_i (x [rows, in] A_i^T) B_i^T, the terms in their order.
/// Precondition: y overlaps nothing else.
inline void low_rank_add(ConstMatrix x, std::span<const LowRankTerm> terms, Matrix y, Scratch scratch) {
  for (std::int64_t i = 0; i < x.rows; i += low_rank_tile) {
    const std::int64_t rows = std::min(low_rank_tile, x.rows - i);
    for (const LowRankTerm& term : terms) {
      assert(term.a.cols == x.cols && term.b.rows == y.cols && term.b.cols == term.a.rows &&
             y.rows == x.rows && "low_rank_add: shapes A [rank,in], B [out,rank]");
      add_low_rank_rows(x.rows_from(i, rows), term, y.rows_from(i, rows), scratch);
    }
  }
}

} // namespace tenon::kernels

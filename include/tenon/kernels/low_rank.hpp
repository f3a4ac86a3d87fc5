// SPDX-License-Identifier: Apache-2.0
// The LoRA side path (Hu et al., arXiv:2106.09685, section 4.1): y += sum_i s_i (x A_i^T) B_i^T. The product
// B_i A_i is never formed, and the base weight is not looked at. Rows go through in tiles, so that what is
// held between the two products is [tile, rank]. Cost: 2 rows rank (in + out) flops per term; scratch stated
// below, whatever the number of rows, of terms, and their dtypes. One thread.
#pragma once

#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// One adapter at one weight [out, in]: its delta is scale * B A.
struct LowRankTerm {
  WeightMatrix a;     ///< [rank, in]; kohya's lora_down
  WeightMatrix b;     ///< [out, rank]; kohya's lora_up
  float scale = 1.0f; ///< alpha / rank (rsLoRA: alpha / sqrt(rank)) times the user's weight
};

/// Rows of x taken together: enough that decoding A and B once per tile costs little beside the products.
inline constexpr std::int64_t low_rank_tile = 256;

/// Scratch of `low_rank_add` for x [rows, in], y [rows, out] and terms of at most `max_rank`. Grows with
/// each; at most 1 KiB * max_rank + 448 KiB.
[[nodiscard]] constexpr std::int64_t low_rank_scratch_bytes(std::int64_t rows, std::int64_t out,
                                                            std::int64_t in, std::int64_t max_rank) noexcept {
  const std::int64_t tile = std::min(rows, low_rank_tile);
  return scratch_sum(
      {scratch_bytes<float>(tile * max_rank), scratch_max({multiply_scratch_bytes(tile, max_rank, in),
                                                           multiply_scratch_bytes(tile, out, max_rank)})});
}

/// y [rows, out] += sum_i s_i (x [rows, in] A_i^T) B_i^T, the terms in their order.
/// Precondition: y overlaps nothing else.
inline void low_rank_add(ConstMatrix x, std::span<const LowRankTerm> terms, Matrix y, Scratch scratch) {
  for (std::int64_t i = 0; i < x.rows; i += low_rank_tile) {
    const std::int64_t rows = std::min(low_rank_tile, x.rows - i);
    for (const LowRankTerm& term : terms) {
      const std::int64_t rank = term.a.rows;
      assert(term.a.cols == x.cols && term.b.rows == y.cols && term.b.cols == rank && y.rows == x.rows &&
             "low_rank_add: shapes A [rank,in], B [out,rank]");
      Scratch rest = scratch;
      const Matrix shrunk{rest.take<float>(rows * rank).data(), rows, rank, rank};
      std::fill_n(shrunk.data, rows * rank, 0.0f);
      multiply_nt(x.rows_from(i, rows), term.a, 1.0f, shrunk, rest);
      multiply_nt(shrunk, term.b, term.scale, y.rows_from(i, rows), rest);
    }
  }
}

} // namespace tenon::kernels

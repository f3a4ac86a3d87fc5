// SPDX-License-Identifier: Apache-2.0
// W' = W + sum_i s_i B_i A_i, out of place, in one pass over W: a tile is decoded, every adapter is added to
// it in float, and it is encoded once, so that the sum is rounded to the weight's type once whatever the
// number of terms. The base is never written; undoing a merge is dropping `out`. Each element depends on the
// base and the terms alone. Cost: 2 rows cols rank flops per term, one read of W and one write, 576 KiB of
// scratch, whatever the shapes, the ranks and the number of terms. One thread.
#pragma once

#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/weight_tile.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tenon::kernels {

inline constexpr std::int64_t merge_tile_rows = 128;
inline constexpr std::int64_t merge_tile_cols = 256;
inline constexpr std::int64_t merge_tile_rank = gemm_depth; ///< a longer rank is added in parts

/// Scratch of `merge_low_rank`, for any base and terms: 576 KiB.
inline constexpr std::int64_t merge_scratch_bytes =
    scratch_sum({scratch_bytes<float>(merge_tile_rows * (merge_tile_cols + merge_tile_rank)),
                 multiply_scratch_bytes(merge_tile_rows, merge_tile_cols, merge_tile_rank)});

/// tile += s B A for the rows from `row` on and the columns from `col` on.
inline void add_low_rank_tile(const LowRankTerm& term, std::int64_t row, std::int64_t col, Matrix tile,
                              Scratch scratch) {
  const auto room = scratch.take<float>(merge_tile_rows * merge_tile_rank);
  for (std::int64_t r = 0; r < term.a.rows; r += merge_tile_rank) {
    const std::int64_t rank = std::min(merge_tile_rank, term.a.rows - r);
    const ConstMatrix b = float_tile(term.b.block(row, r, tile.rows, rank), room);
    multiply_nn(b, term.a.block(r, col, rank, tile.cols), term.scale, tile, scratch);
  }
}

/// out [rows, cols], contiguous and of the base's dtype, = base + sum_i s_i B_i A_i, each element rounded
/// once. Without terms it is a copy of the base's bytes. Precondition: `out` overlaps nothing else.
inline void merge_low_rank(WeightMatrix base, std::span<const LowRankTerm> terms, std::byte* out,
                           Scratch scratch) {
  const std::int64_t element = dtype_bytes(base.dtype);
  if (terms.empty()) {
    for (std::int64_t i = 0; i < base.rows; ++i)
      std::memcpy(out + i * base.cols * element, base.at(i, 0),
                  static_cast<std::size_t>(base.cols * element));
    return;
  }
  const auto room = scratch.take<float>(merge_tile_rows * merge_tile_cols);
  for (std::int64_t i = 0; i < base.rows; i += merge_tile_rows) {
    for (std::int64_t j = 0; j < base.cols; j += merge_tile_cols) {
      const std::int64_t rows = std::min(merge_tile_rows, base.rows - i);
      const std::int64_t cols = std::min(merge_tile_cols, base.cols - j);
      const Matrix tile{room.data(), rows, cols, cols};
      for (std::int64_t r = 0; r < rows; ++r) decode(base.dtype, base.at(i + r, j), cols, tile.row(r));
      for (const LowRankTerm& term : terms) {
        assert(term.a.cols == base.cols && term.b.rows == base.rows && term.b.cols == term.a.rows &&
               "merge_low_rank: shapes A [rank,in], B [out,rank]");
        add_low_rank_tile(term, i, j, tile, scratch);
      }
      for (std::int64_t r = 0; r < rows; ++r)
        encode(base.dtype, tile.row(r), cols, out + ((i + r) * base.cols + j) * element);
    }
  }
}

} // namespace tenon::kernels

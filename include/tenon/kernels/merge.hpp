// SPDX-License-Identifier: Apache-2.0
// W' = W + sum_i s_i B_i A_i, out of place, in one pass over W: a tile is decoded, every adapter is added to
// it in float while it is in the first-level cache, and it is encoded once, so that the sum is rounded to the
// weight's type once whatever the number of terms. The ranks of all terms are laid end to end: several adapters are
// one product, read from panels of A that are made once for all rows. The base is never written; undoing a
// merge is dropping `out`. Each element depends on the base and the terms alone. Cost: 2 rows cols rank flops
// per term, one read of W and one write, 710 KiB of scratch, whatever the shapes, the ranks and the number of
// terms. One thread.
#pragma once

#include <tenon/kernels/low_rank.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/panels.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/weight_tile.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tenon::kernels {

inline constexpr std::int64_t merge_rows = 24;   ///< of W, whose B is gathered together
inline constexpr std::int64_t merge_cols = 64;   ///< of W, decoded together
inline constexpr std::int64_t merge_rank = 2048; ///< of all terms; a longer one is added in parts
inline constexpr std::int64_t merge_panel_floats = 128 * 1024; ///< of A, made into panels together

/// Scratch of `merge_low_rank`, for any base and terms.
inline constexpr std::int64_t merge_scratch_bytes =
    scratch_sum({scratch_bytes<float>(merge_panel_floats), scratch_bytes<float>(merge_rows* merge_rank),
                 scratch_bytes<float>(merge_rows* merge_cols)});

/// Panels [rank, cols] of A, for a range of all ranks and the columns from `col` on.
inline void make_panels_of_a(const VectorKernels& kernels, std::span<const LowRankTerm> terms,
                             std::int64_t begin, std::int64_t rank, std::int64_t col, std::int64_t cols,
                             float* panels) {
  const std::int64_t width = kernels.width;
  visit_ranks(terms, begin, rank,
              [&](const LowRankTerm& term, std::int64_t first, std::int64_t count, std::int64_t at) {
                for (std::int64_t c = 0; c < cols; c += width) {
                  float row[max_panel_width] = {};
                  for (std::int64_t r = 0; r < count; ++r) {
                    kernels.decode(term.a.dtype, term.a.at(first + r, col + c), std::min(width, cols - c),
                                   row);
                    std::memcpy(panels + c * rank + (at + r) * width, row,
                                static_cast<std::size_t>(width) * sizeof(float));
                  }
                }
              });
}

/// tile [rows, cols], whose rows have room for whole panels, = base + B A, for the B of these rows and the
/// panels of these columns of A.
inline void merge_tile(const VectorKernels& kernels, WeightMatrix base, ConstMatrix b, const float* panels,
                       Matrix tile) {
  for (std::int64_t r = 0; r < tile.rows; ++r)
    kernels.decode(base.dtype, base.at(r, 0), tile.cols, tile.row(r));
  for (std::int64_t c = 0; c < tile.cols; c += kernels.width)
    kernels.multiply_panel(b, panels + c * b.cols, 1.0f, tile.cols_from(c, kernels.width));
}

/// The same into bytes of the base's dtype: through `room`, or in place where they are aligned floats
/// already.
inline void merge_tile_to(const VectorKernels& kernels, WeightMatrix base, ConstMatrix b, const float* panels,
                          std::byte* out, std::int64_t out_stride, float* room) {
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(out) % alignof(float) == 0;
  if (base.dtype == DType::f32 && is_aligned && base.cols % kernels.width == 0) {
    auto* const floats = reinterpret_cast<float*>(out);
    return merge_tile(kernels, base, b, panels,
                      {floats, base.rows, base.cols, out_stride / dtype_bytes(DType::f32)});
  }
  const Matrix tile{room, base.rows, base.cols, merge_cols};
  merge_tile(kernels, base, b, panels, tile);
  for (std::int64_t r = 0; r < tile.rows; ++r)
    kernels.encode(base.dtype, tile.row(r), tile.cols, out + r * out_stride);
}

/// All rows of some columns, for the panels of these columns of A. A few rows go through from left to right
/// together, in tiles that stay in the first-level cache.
inline void merge_columns(const VectorKernels& kernels, WeightMatrix base, std::span<const LowRankTerm> terms,
                          std::int64_t first_row, std::int64_t ranks, const float* panels, std::byte* out,
                          std::int64_t out_stride, std::span<float> b_room, float* tile_room) {
  for (std::int64_t i = 0; i < base.rows; i += merge_rows) {
    const Matrix b{b_room.data(), std::min(merge_rows, base.rows - i), ranks, ranks};
    gather_b(kernels, terms, 0, first_row + i, b);
    for (std::int64_t r = 0; r < b.rows; r += kernels.rows) {
      const std::int64_t rows = std::min(kernels.rows, b.rows - r);
      for (std::int64_t j = 0; j < base.cols; j += merge_cols) {
        const std::int64_t cols = std::min(merge_cols, base.cols - j);
        merge_tile_to(kernels, base.block(i + r, j, rows, cols), b.rows_from(r, rows), panels + j * ranks,
                      out + (i + r) * out_stride + j * dtype_bytes(base.dtype), out_stride, tile_room);
      }
    }
  }
}

/// A tile at a time, whose sums stay floats while the parts of a very long rank are added to it.
inline void merge_in_parts(const VectorKernels& kernels, WeightMatrix base,
                           std::span<const LowRankTerm> terms, std::int64_t first_row, std::int64_t ranks,
                           float* panels, std::byte* out, std::int64_t out_stride, std::span<float> b_room,
                           float* tile_room) {
  for (std::int64_t i = 0; i < base.rows; i += merge_rows)
    for (std::int64_t j = 0; j < base.cols; j += kernels.width) {
      const std::int64_t cols = std::min(kernels.width, base.cols - j);
      const Matrix tile{tile_room, std::min(merge_rows, base.rows - i), cols, kernels.width};
      for (std::int64_t r = 0; r < tile.rows; ++r)
        kernels.decode(base.dtype, base.at(i + r, j), cols, tile.row(r));
      for (std::int64_t k = 0; k < ranks; k += merge_rank) {
        const Matrix b{b_room.data(), tile.rows, std::min(merge_rank, ranks - k),
                       std::min(merge_rank, ranks - k)};
        make_panels_of_a(kernels, terms, k, b.cols, j, cols, panels);
        gather_b(kernels, terms, k, first_row + i, b);
        kernels.multiply_panel(b, panels, 1.0f, tile);
      }
      for (std::int64_t r = 0; r < tile.rows; ++r)
        kernels.encode(base.dtype, tile.row(r), cols,
                       out + (i + r) * out_stride + j * dtype_bytes(base.dtype));
    }
}

/// out [rows, cols], contiguous and of the base's dtype, = base + sum_i s_i B_i A_i, each element rounded
/// once. Without terms it is a copy of the base's bytes. `base` and `out` may be some rows of a weight, from
/// `first_row` on, for the terms of the whole. Precondition: `out` overlaps nothing else.
inline void merge_low_rank(WeightMatrix base, std::span<const LowRankTerm> terms, std::byte* out,
                           Scratch scratch, const VectorKernels& kernels = vector_kernels(),
                           std::int64_t first_row = 0) {
  const std::int64_t element = dtype_bytes(base.dtype);
  const std::int64_t stride = base.cols * element;
  const std::int64_t ranks = total_rank(terms);
  if (ranks == 0) {
    for (std::int64_t i = 0; i < base.rows; ++i)
      std::memcpy(out + i * stride, base.at(i, 0), static_cast<std::size_t>(stride));
    return;
  }
  for ([[maybe_unused]] const LowRankTerm& term : terms)
    assert(term.a.cols == base.cols && term.b.rows >= first_row + base.rows && term.b.cols == term.a.rows &&
           "merge_low_rank: shapes A [rank,in], B [out,rank]");
  const auto panels = scratch.take<float>(merge_panel_floats);
  const auto b_room = scratch.take<float>(merge_rows * merge_rank);
  const auto tile = scratch.take<float>(merge_rows * merge_cols);
  if (ranks > merge_rank) {
    merge_in_parts(kernels, base, terms, first_row, ranks, panels.data(), out, stride, b_room, tile.data());
    return;
  }
  const std::int64_t most = merge_panel_floats / ranks / max_panel_width * max_panel_width;
  const std::int64_t step = even_part(base.cols, most, max_panel_width);
  for (std::int64_t j = 0; j < base.cols; j += step) {
    const std::int64_t cols = std::min(step, base.cols - j);
    make_panels_of_a(kernels, terms, 0, ranks, j, cols, panels.data());
    merge_columns(kernels, base.block(0, j, base.rows, cols), terms, first_row, ranks, panels.data(),
                  out + j * element, stride, b_room, tile.data());
  }
}

} // namespace tenon::kernels

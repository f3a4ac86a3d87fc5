// SPDX-License-Identifier: Apache-2.0
// W' = W + sum_i s_i B_i A_i, out of place, in one pass over W: the sum of every adapter is made in registers,
// the decoded weight is added to it there, and it is encoded from there, so that it is rounded to the weight's
// type once whatever the number of terms. The ranks of all terms are laid end to end: several adapters are one
// product, read from panels of A that are made once for all rows. The base is never written; undoing a merge
// is dropping `out`. Each element depends on the base and the terms alone: not on addresses, nor on which rows
// are merged together. Cost: 2 rows cols rank flops per term, one read of W and one write, 710 KiB of scratch,
// whatever the shapes, the ranks and the number of terms. With AVX512_BF16 or AMX, bfloat16 factors go another way
// (pair_merge.hpp, amx_merge.hpp). One thread.
#pragma once

#include <tenon/kernels/amx_merge.hpp>
#include <tenon/kernels/gather_b.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/merge_blocks.hpp>
#include <tenon/kernels/merge_kernels.hpp>
#include <tenon/kernels/merge_loss.hpp>
#include <tenon/kernels/merge_part.hpp>
#include <tenon/kernels/pair_merge.hpp>
#include <tenon/kernels/panels.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/tile_unit.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/weight_tile.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tenon::kernels {

inline constexpr std::int64_t merge_rank = 2048; ///< of all terms; a longer one is added in parts
inline constexpr std::int64_t merge_panel_floats = 128 * 1024; ///< of A, made into panels together

/// Scratch of `merge_low_rank`, for any base and terms.
inline constexpr std::int64_t merge_scratch_bytes =
    scratch_sum({scratch_bytes<float>(merge_panel_floats), scratch_bytes<float>(merge_rows* merge_rank),
                 scratch_bytes<float>(merge_rows* merge_cols)});
static_assert(amx_merge_scratch_bytes <= merge_scratch_bytes &&
                  pair_merge_scratch_bytes <= merge_scratch_bytes,
              "the merges on units of bfloat16 use the same scratch");

/// Panels [rank, cols] of A, for a range of all ranks and the columns from `col` on; `alternate`: a row's even columns
/// before its odd ones, as `merge_rows` takes them for bfloat16.
inline void make_panels_of_a(const VectorKernels& kernels, std::span<const LowRankTerm> terms,
                             std::int64_t begin, std::int64_t rank, std::int64_t col, std::int64_t cols,
                             bool alternate, float* panels) {
  const std::int64_t width = kernels.width;
  visit_ranks(terms, begin, rank,
              [&](const LowRankTerm& term, std::int64_t first, std::int64_t count, std::int64_t at) {
                for (std::int64_t c = 0; c < cols; c += width) {
                  float row[max_panel_width] = {};
                  for (std::int64_t r = 0; r < count; ++r) {
                    kernels.decode(term.a.dtype, term.a.at(first + r, col + c), std::min(width, cols - c),
                                   row);
                    float* const to = panels + c * rank + (at + r) * width;
                    if (alternate)
                      for (std::int64_t i = 0; i < width; ++i) to[alternate_place(i, width)] = row[i];
                    else
                      std::memcpy(to, row, static_cast<std::size_t>(width) * sizeof(float));
                  }
                }
              });
}

/// All rows of some columns, for the panels of these columns of A.
inline void merge_columns(const VectorKernels& kernels, WeightMatrix base, std::span<const LowRankTerm> terms,
                          std::int64_t ranks, const float* panels, MergedRows out, std::span<float> b_room,
                          float* tile_room, MergePart part) {
  const MergeKernels& merge = merge_kernels(kernels.set);
  for (std::int64_t i = 0; i < base.rows; i += merge_rows, out.data += merge_rows * out.stride) {
    const Matrix b{b_room.data(), std::min(merge_rows, base.rows - i), ranks, ranks};
    gather_b(kernels, terms, 0, part.first_row + i, b);
    merge_measured(merge, base.block(i, 0, b.rows, base.cols), out, tile_room, part.loss,
                   [&](WeightMatrix block, std::int64_t col, MergedRows to) {
                     merge.merge_rows(block, b, panels + col * ranks, to);
                   });
  }
}

/// A tile at a time, in which the parts of a very long rank are added up before the weight is.
inline void merge_in_parts(const VectorKernels& kernels, WeightMatrix base,
                           std::span<const LowRankTerm> terms, std::int64_t ranks, float* panels,
                           std::byte* out, std::int64_t out_stride, std::span<float> b_room, float* tile_room,
                           MergePart part) {
  for (std::int64_t i = 0; i < base.rows; i += merge_rows)
    for (std::int64_t j = 0; j < base.cols; j += kernels.width) {
      const std::int64_t cols = std::min(kernels.width, base.cols - j);
      const Matrix tile{tile_room, std::min(merge_rows, base.rows - i), cols, kernels.width};
      std::fill_n(tile.data, tile.rows * tile.stride, -0.0f);
      for (std::int64_t k = 0; k < ranks; k += merge_rank) {
        const Matrix b{b_room.data(), tile.rows, std::min(merge_rank, ranks - k),
                       std::min(merge_rank, ranks - k)};
        make_panels_of_a(kernels, terms, k, b.cols, j, cols, false, panels);
        gather_b(kernels, terms, k, part.first_row + i, b);
        kernels.multiply_panel(b, panels, 1.0f, tile);
      }
      finish_tile(merge_kernels(kernels.set), base.block(i, j, tile.rows, cols), tile,
                  out + i * out_stride + j * dtype_bytes(base.dtype), out_stride, part.loss);
    }
}

/// out [rows, cols], contiguous and of the base's dtype, = base + sum_i s_i B_i A_i, each element rounded
/// once. Without terms it is a copy of the base's bytes. `base` and `out` may be some rows of a weight, for
/// the terms of the whole; see MergePart. Precondition: `out` overlaps nothing else.
inline void merge_low_rank(WeightMatrix base, std::span<const LowRankTerm> terms, std::byte* out,
                           Scratch scratch, const VectorKernels& kernels = vector_kernels(),
                           MergePart part = {}) {
  const std::int64_t element = dtype_bytes(base.dtype);
  const std::int64_t stride = base.cols * element;
  const std::int64_t ranks = total_rank(terms);
  if (ranks == 0) {
    for (std::int64_t i = 0; i < base.rows; ++i)
      std::memcpy(out + i * stride, base.at(i, 0), static_cast<std::size_t>(stride));
    if (part.loss != nullptr)
      *part.loss += {.weights = base.rows * base.cols, .unmoved = base.rows * base.cols};
    return;
  }
  for ([[maybe_unused]] const LowRankTerm& term : terms)
    assert(term.a.cols == base.cols && term.b.cols == term.a.rows && term.first_row >= 0 &&
           "merge_low_rank: shapes A [rank,in], B [rows,rank] from row 0 of the weight or a later one on");
#if defined(__x86_64__)
  if (kernels.set == InstructionSet::amx && fits_tiles(base, terms))
    return merge_on_tiles<ProcessorTiles>(merge_kernels(kernels.set), base, terms, out, stride, scratch,
                                          part);
#endif
  if (const MergeKernels& merge = merge_kernels(kernels.set);
      merge.merge_pairs != nullptr && fits_pairs(terms))
    return merge_on_pairs(merge, base, terms, out, stride, scratch, part);
  const auto panels = scratch.take<float>(merge_panel_floats);
  const auto b_room = scratch.take<float>(merge_rows * merge_rank);
  const auto tile = scratch.take<float>(merge_rows * merge_cols);
  if (ranks > merge_rank) {
    merge_in_parts(kernels, base, terms, ranks, panels.data(), out, stride, b_room, tile.data(), part);
    return;
  }
  const std::int64_t most = merge_panel_floats / ranks / max_panel_width * max_panel_width;
  const std::int64_t step = even_part(base.cols, most, max_panel_width);
  for (std::int64_t j = 0; j < base.cols; j += step) {
    const std::int64_t cols = std::min(step, base.cols - j);
    make_panels_of_a(kernels, terms, 0, ranks, j, cols, base.dtype == DType::bf16, panels.data());
    merge_columns(kernels, base.block(0, j, base.rows, cols), terms, ranks, panels.data(),
                  {out + j * element, stride, {}, is_streamed(base.dtype, out, stride, base.rows)}, b_room,
                  tile.data(), part);
  }
}

} // namespace tenon::kernels

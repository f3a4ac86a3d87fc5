// SPDX-License-Identifier: Apache-2.0
// W' = W + sum_i s_i B_i A_i by products of pairs of bfloat16 (AVX512_BF16), for a weight of any type and bfloat16 factors.
// The factors are used as they are stored; products are added up in float, and scales applied in float at the end, so
// that terms of one scale are one product, and others further ones. Each element depends on the base and the terms
// alone. Cost: as the merge's; its scratch. One thread.
#pragma once

#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/merge_blocks.hpp>
#include <tenon/kernels/merge_kernels.hpp>
#include <tenon/kernels/merge_part.hpp>
#include <tenon/kernels/scale_groups.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/weight_tile.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tenon::kernels {

inline constexpr std::int64_t pair_ranks = 2;        ///< of a pair
inline constexpr std::int64_t pair_panel_width = 32; ///< columns of a panel
inline constexpr std::int64_t pair_depth = 1024;     ///< pairs of all terms; more take another path
inline constexpr std::int64_t pair_panel_elements = 256 * 1024; ///< of A, made into panels together

/// Scratch of `merge_on_pairs`, for any base and terms.
inline constexpr std::int64_t pair_merge_scratch_bytes =
    scratch_sum({scratch_bytes<std::uint16_t>(pair_panel_elements),
                 scratch_bytes<std::uint16_t>(merge_rows* pair_depth* pair_ranks),
                 scratch_bytes<float>(merge_rows* merge_cols), scratch_bytes<PairProduct>(pair_depth)});

/// Whether `merge_on_pairs` takes these.
[[nodiscard]] inline bool fits_pairs(std::span<const LowRankTerm> terms) noexcept {
  return fits_bf16_unit(terms, pair_ranks, pair_depth);
}

/// Panels [pairs, cols] of A for the columns from `col` on: a row of a panel has its even columns before its odd ones if
/// these `alternate`. Ranks and columns that are not there are zeros.
inline void make_pair_panels(std::span<const LowRankTerm> terms, std::int64_t pairs, std::int64_t col,
                             std::int64_t cols, bool alternate, std::uint16_t* to) noexcept {
  constexpr std::int64_t width = pair_panel_width;
  for (std::int64_t c = 0; c < cols; c += width, to += pair_ranks * width * pairs) {
    std::memset(to, 0, static_cast<std::size_t>(pair_ranks * width * pairs) * sizeof *to);
    const auto bytes = static_cast<std::size_t>(std::min(width, cols - c)) * sizeof *to;
    visit_scaled_terms(terms, pair_ranks, [&](const LowRankTerm& term, std::int64_t place) {
      for (std::int64_t r = 0; r < term.a.rows; ++r, ++place) {
        std::uint16_t values[width] = {};
        std::memcpy(values, term.a.at(r, col + c), bytes);
        std::uint16_t* const row = to + place / pair_ranks * (pair_ranks * width) + place % pair_ranks;
        for (std::int64_t i = 0; i < width; ++i)
          row[pair_ranks * (alternate ? alternate_place(i, width) : i)] = values[i];
      }
    });
  }
}

/// to [rows, pairs] = B for the weight's rows from `row` on, zeros where a term has no such row.
inline void gather_pairs_of_b(std::span<const LowRankTerm> terms, std::int64_t pairs, std::int64_t row,
                              std::int64_t rows, std::uint16_t* to) noexcept {
  const std::int64_t stride = pair_ranks * pairs;
  std::memset(to, 0, static_cast<std::size_t>(rows * stride) * sizeof *to);
  visit_scaled_terms(terms, pair_ranks, [&](const LowRankTerm& term, std::int64_t place) {
    const RowWindow window = row_window(term, row, rows);
    for (std::int64_t i = 0; i < window.count; ++i)
      std::memcpy(to + (window.begin + i) * stride + place, term.b.at(window.row + i, 0),
                  static_cast<std::size_t>(term.b.cols) * sizeof *to);
  });
}

/// out, whose rows are `out_stride` bytes apart, = base + sum_i s_i B_i A_i, for some rows of the weight.
/// Preconditions: `fits_pairs`, some rank is not 0, and `merge` has `merge_pairs`.
inline void merge_on_pairs(const MergeKernels& merge, WeightMatrix base, std::span<const LowRankTerm> terms,
                           std::byte* out, std::int64_t out_stride, Scratch scratch, MergePart part) {
  const auto panels = scratch.take<std::uint16_t>(pair_panel_elements);
  const auto b = scratch.take<std::uint16_t>(merge_rows * pair_depth * pair_ranks);
  float* const sums = scratch.take<float>(merge_rows * merge_cols).data();
  std::span<PairProduct> products = scratch.take<PairProduct>(pair_depth);
  std::size_t scales = 0;
  const std::int64_t pairs =
      visit_scales(terms, pair_ranks, [&](float scale, std::int64_t, std::int64_t count) {
        products[scales++] = {scale, count};
      });
  products = products.first(scales);
  const bool streams = is_streamed(base.dtype, out, out_stride, base.rows);
  const std::int64_t most = pair_panel_elements / (pair_ranks * pairs) / pair_panel_width * pair_panel_width;
  const std::int64_t step = even_part(base.cols, most, pair_panel_width);
  for (std::int64_t j = 0; j < base.cols; j += step) {
    const std::int64_t cols = std::min(step, base.cols - j);
    make_pair_panels(terms, pairs, j, cols, base.dtype == DType::bf16, panels.data());
    for (std::int64_t i = 0; i < base.rows; i += merge_rows) {
      const std::int64_t rows = std::min(merge_rows, base.rows - i);
      gather_pairs_of_b(terms, pairs, part.first_row + i, rows, b.data());
      merge_measured(merge, base.block(i, j, rows, cols),
                     {out + i * out_stride + j * dtype_bytes(base.dtype), out_stride, {}, streams}, sums,
                     part.loss, [&](WeightMatrix block, std::int64_t col, MergedRows to) {
                       merge.merge_pairs(block, b.data(), pairs, products,
                                         panels.data() + col * pair_ranks * pairs, to);
                     });
    }
  }
}

} // namespace tenon::kernels

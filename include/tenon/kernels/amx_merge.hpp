// SPDX-License-Identifier: Apache-2.0
// W' = W + sum_i s_i B_i A_i on a matrix unit, for a bfloat16 weight and bfloat16 factors. The factors are used
// as they are stored; products are added up in float, and scales applied in float at the end, so that terms of
// one scale are one product, and others further ones. A of a slice of columns is packed once as the unit reads
// it; B of 32 rows at a time; 32 x 32 sums are four tiles. Ranks, rows and columns that fill no tile are
// zeros. Each element depends on the base and the terms alone. Cost: as the merge's; its scratch. One thread.
#pragma once

#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/merge_kernels.hpp>
#include <tenon/kernels/merge_part.hpp>
#include <tenon/kernels/scale_groups.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/tile_unit.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tenon::kernels {

inline constexpr std::int64_t amx_block = 2 * amx_rows;        ///< rows and columns of a block of sums
inline constexpr std::int64_t amx_depth_tiles = 64;            ///< of all terms; more take another path
inline constexpr std::int64_t amx_panel_elements = 256 * 1024; ///< of A, packed together

/// Scratch of `merge_on_tiles`, for any base and terms.
inline constexpr std::int64_t amx_merge_scratch_bytes =
    scratch_sum({scratch_bytes<std::uint16_t>(amx_panel_elements),
                 scratch_bytes<std::uint16_t>(2 * amx_depth_tiles * amx_elements),
                 2 * scratch_bytes<float>(amx_block* amx_block)});

/// Whether `merge_on_tiles` takes these.
[[nodiscard]] inline bool fits_tiles(WeightMatrix base, std::span<const LowRankTerm> terms) noexcept {
  return base.dtype == DType::bf16 && fits_bf16_unit(terms, amx_depth, amx_depth_tiles);
}

/// A of `cols` columns from `col` on: for each 16 of them the `depth` tiles, in pairs of ranks.
inline void pack_a(std::span<const LowRankTerm> terms, std::int64_t depth, std::int64_t col,
                   std::int64_t cols, std::uint16_t* to) noexcept {
  const std::int64_t blocks = (cols + amx_block - 1) / amx_block * 2;
  std::memset(to, 0, static_cast<std::size_t>(blocks * depth * amx_elements) * sizeof *to);
  visit_scaled_terms(terms, amx_depth, [&](const LowRankTerm& term, std::int64_t place) {
    for (std::int64_t r = 0; r < term.a.rows; ++r, ++place)
      for (std::int64_t c = 0; c < cols; c += amx_rows) {
        const std::int64_t count = std::min(amx_rows, cols - c);
        std::uint16_t values[amx_rows];
        std::memcpy(values, term.a.at(r, col + c), static_cast<std::size_t>(count) * sizeof *values);
        std::uint16_t* const row = to + (c / amx_rows * depth + place / amx_depth) * amx_elements +
                                   place % amx_depth / 2 * amx_depth + place % 2;
        for (std::int64_t i = 0; i < count; ++i) row[2 * i] = values[i];
      }
  });
}

/// B for the weight's `rows` rows from `row` on: for each 16 of the block's 32 the `depth` tiles, zeros where a
/// term has no such row. Ranks that lie in one tile are copied together.
inline void pack_b(std::span<const LowRankTerm> terms, std::int64_t depth, std::int64_t row,
                   std::int64_t rows, std::uint16_t* to) noexcept {
  std::memset(to, 0, static_cast<std::size_t>(2 * depth * amx_elements) * sizeof *to);
  visit_scaled_terms(terms, amx_depth, [&](const LowRankTerm& term, std::int64_t place) {
    const RowWindow window = row_window(term, row, rows);
    for (std::int64_t i = window.begin; i < window.begin + window.count; ++i)
      for (std::int64_t r = 0; r < term.b.cols;) {
        const std::int64_t at = place + r;
        const std::int64_t count = std::min(term.b.cols - r, amx_depth - at % amx_depth);
        std::memcpy(to + (i / amx_rows * depth + at / amx_depth) * amx_elements + i % amx_rows * amx_depth +
                        at % amx_depth,
                    term.b.at(window.row + i - window.begin, r),
                    static_cast<std::size_t>(count) * sizeof *to);
        r += count;
      }
  });
}

/// sums [32, 32] = B A over `count` tiles along the depth; the two halves of b and of a are `step` elements apart.
template <TileUnit Unit>
void multiply_block(Unit& unit, const std::uint16_t* b, const std::uint16_t* a, std::int64_t step,
                    std::int64_t count, float* sums) noexcept {
  constexpr std::int64_t row_bytes = amx_depth * 2;
  unit.template zero<0>();
  unit.template zero<1>();
  unit.template zero<2>();
  unit.template zero<3>();
  for (const std::uint16_t* const end = b + count * amx_elements; b < end;
       b += amx_elements, a += amx_elements) {
    unit.template load<4>(b, row_bytes);
    unit.template load<5>(b + step, row_bytes);
    unit.template load<6>(a, row_bytes);
    unit.template load<7>(a + step, row_bytes);
    unit.template multiply<0, 4, 6>();
    unit.template multiply<1, 4, 7>();
    unit.template multiply<2, 5, 6>();
    unit.template multiply<3, 5, 7>();
  }
  constexpr std::int64_t stride = amx_block * 4;
  unit.template store<0>(sums, stride);
  unit.template store<1>(sums + amx_rows, stride);
  unit.template store<2>(sums + amx_rows * amx_block, stride);
  unit.template store<3>(sums + amx_rows * amx_block + amx_rows, stride);
}

/// out, whose rows are `out_stride` bytes apart, = base + sum_i s_i B_i A_i, for some rows of the weight.
/// Precondition: `fits_tiles`, and some rank is not 0.
template <TileUnit Unit>
void merge_on_tiles(const MergeKernels& merge, WeightMatrix base, std::span<const LowRankTerm> terms,
                    std::byte* out, std::int64_t out_stride, Scratch scratch, MergePart part) {
  const auto a = scratch.take<std::uint16_t>(amx_panel_elements);
  const auto b = scratch.take<std::uint16_t>(2 * amx_depth_tiles * amx_elements);
  float* const sums = scratch.take<float>(amx_block * amx_block).data();
  float* const added = scratch.take<float>(amx_block * amx_block).data();
  std::int64_t scales = 0;
  const std::int64_t depth =
      visit_scales(terms, amx_depth, [&](float, std::int64_t, std::int64_t) { ++scales; });
  const std::int64_t step = amx_panel_elements / (depth * amx_depth) / amx_block * amx_block;
  Unit unit;
  for (std::int64_t j = 0; j < base.cols; j += step) {
    const std::int64_t cols = std::min(step, base.cols - j);
    pack_a(terms, depth, j, cols, a.data());
    for (std::int64_t i = 0; i < base.rows; i += amx_block) {
      const std::int64_t rows = std::min(amx_block, base.rows - i);
      pack_b(terms, depth, part.first_row + i, rows, b.data());
      for (std::int64_t c = 0; c < cols; c += amx_block) {
        float scale = 1.0f;
        const float* delta = sums;
        visit_scales(terms, amx_depth, [&](float one, std::int64_t first, std::int64_t count) {
          multiply_block(unit, b.data() + first * amx_elements,
                         a.data() + (c / amx_rows * depth + first) * amx_elements, depth * amx_elements,
                         count, sums);
          if (scales == 1) {
            scale = one;
            return;
          }
          for (std::int64_t e = 0; e < amx_block * amx_block; ++e)
            added[e] = (first == 0 ? 0.0f : added[e]) + one * sums[e];
          delta = added;
        });
        const WeightMatrix block = base.block(i, j + c, rows, std::min(amx_block, cols - c));
        const ConstMatrix tile{delta, rows, block.cols, amx_block};
        std::byte* const to = out + i * out_stride + (j + c) * dtype_bytes(base.dtype);
        merge.add_tile(block, tile, scale, to, out_stride);
        if (part.loss != nullptr) merge.measure(block, tile, scale, to, out_stride, *part.loss);
      }
    }
  }
}

} // namespace tenon::kernels

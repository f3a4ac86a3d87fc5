// SPDX-License-Identifier: Apache-2.0
// c += alpha a b^T on a matrix unit, for floats a and a bfloat16 weight b. A float is the sum of three bfloat16
// numbers (8 + 8 + 8 bits), so that each product of parts is exact in float, and no more is lost than by
// adding up floats. The weight's rows are the unit's left operand, in place; a is packed as the right one.
// Sums are made for 32 x 32 elements, over 512 of the depth. Each element depends on its row and column alone.
// A float beyond 0x1.ffp127 becomes infinite. Cost: 6 m n k flops of the unit, which has 16 times those of a
// vector or more; 390 KiB of scratch. One thread.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/panels.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/tile_unit.hpp>
#include <tenon/weights/half.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tenon::kernels {

inline constexpr std::int64_t amx_parts = 3;                    ///< bfloat16 numbers whose sum is a float
inline constexpr std::int64_t amx_product_rows = 128;           ///< of a, packed together
inline constexpr std::int64_t amx_product_depth = 512;          ///< of k, packed together
inline constexpr std::int64_t amx_product_block = 2 * amx_rows; ///< rows and columns of a block of sums

/// Scratch of `multiply_on_tiles`, for any shapes.
inline constexpr std::int64_t amx_product_scratch_bytes =
    scratch_sum({scratch_bytes<std::uint16_t>(amx_product_rows * amx_product_depth * amx_parts),
                 scratch_bytes<std::uint16_t>(2 * amx_elements),
                 scratch_bytes<float>(amx_product_block* amx_product_block)});

/// a [rows, depth], its parts, for each 16 rows and each 32 of the depth three tiles: pairs along the depth, so
/// that a row of a is a column of a tile. What is past the last row or column is zero.
inline void pack_parts(ConstMatrix a, std::uint16_t* to) noexcept {
  const std::int64_t steps = (a.cols + amx_depth - 1) / amx_depth;
  const std::int64_t blocks = (a.rows + amx_product_block - 1) / amx_product_block * 2;
  std::memset(to, 0, static_cast<std::size_t>(blocks * steps * amx_parts * amx_elements) * sizeof *to);
  for (std::int64_t r = 0; r < a.rows; ++r)
    for (std::int64_t k = 0; k < a.cols; ++k) {
      float rest = a.row(r)[k];
      std::uint16_t* at = to + (r / amx_rows * steps + k / amx_depth) * amx_parts * amx_elements +
                          k % amx_depth / 2 * amx_depth + r % amx_rows * 2 + k % 2;
      for (std::int64_t part = 0; part < amx_parts; ++part, at += amx_elements) {
        *at = bf16_from_f32(rest);
        const float value = f32_from_bf16(*at);
        rest = value - value == 0.0f ? rest - value : 0.0f; // infinity and NaN have no rest
      }
    }
}

/// Sixteen rows of a weight over one step of the depth, where they lie or in a padded copy.
struct StoredTile {
  const void* data;
  std::int64_t stride; ///< bytes
};
[[nodiscard]] inline StoredTile stored_tile(WeightMatrix b, std::int64_t row, std::int64_t k,
                                            std::uint16_t* room) noexcept {
  const std::int64_t rows = std::clamp<std::int64_t>(b.rows - row, 0, amx_rows);
  const std::int64_t cols = std::min(b.cols - k, amx_depth);
  if (rows == amx_rows && cols == amx_depth) return {b.at(row, k), b.stride * 2};
  std::memset(room, 0, static_cast<std::size_t>(amx_elements) * sizeof *room);
  for (std::int64_t r = 0; r < rows; ++r)
    std::memcpy(room + r * amx_depth, b.at(row + r, k), static_cast<std::size_t>(cols) * sizeof *room);
  return {room, amx_depth * 2};
}

/// c [m, n] += alpha a [m, k] b [n, k]^T. Preconditions: b is bfloat16; c overlaps neither.
template <TileUnit Unit>
void multiply_on_tiles(ConstMatrix a, WeightMatrix b, float alpha, Matrix c, Scratch scratch) {
  constexpr std::int64_t block = amx_product_block;
  constexpr std::int64_t row_bytes = amx_depth * 2;
  const auto packed = scratch.take<std::uint16_t>(amx_product_rows * amx_product_depth * amx_parts);
  const auto room = scratch.take<std::uint16_t>(2 * amx_elements);
  const Matrix sums{scratch.take<float>(block * block).data(), block, block, block};
  Unit unit;
  for (std::int64_t k = 0; k < a.cols; k += amx_product_depth)
    for (std::int64_t i = 0; i < a.rows; i += amx_product_rows) {
      const std::int64_t depth = std::min(amx_product_depth, a.cols - k);
      const std::int64_t half = (depth + amx_depth - 1) / amx_depth * amx_parts * amx_elements;
      const ConstMatrix rows = a.rows_from(i, std::min(amx_product_rows, a.rows - i)).cols_from(k, depth);
      pack_parts(rows, packed.data());
      for (std::int64_t j = 0; j < b.rows; j += block)
        for (std::int64_t r = 0; r < rows.rows; r += block) {
          const std::uint16_t* x = packed.data() + r / amx_rows * half;
          unit.template zero<0>();
          unit.template zero<1>();
          unit.template zero<2>();
          unit.template zero<3>();
          for (std::int64_t d = 0; d < depth; d += amx_depth) {
            const WeightMatrix part = b.block(0, k, b.rows, depth);
            const StoredTile upper = stored_tile(part, j, d, room.data());
            const StoredTile lower = stored_tile(part, j + amx_rows, d, room.data() + amx_elements);
            unit.template load<4>(upper.data, upper.stride);
            unit.template load<5>(lower.data, lower.stride);
            for (std::int64_t p = 0; p < amx_parts; ++p, x += amx_elements) {
              unit.template load<6>(x, row_bytes);
              unit.template load<7>(x + half, row_bytes);
              unit.template multiply<0, 4, 6>();
              unit.template multiply<1, 4, 7>();
              unit.template multiply<2, 5, 6>();
              unit.template multiply<3, 5, 7>();
            }
          }
          unit.template store<0>(sums.data, block * 4);
          unit.template store<1>(sums.data + amx_rows, block * 4);
          unit.template store<2>(sums.row(amx_rows), block * 4);
          unit.template store<3>(sums.row(amx_rows) + amx_rows, block * 4);
          for (std::int64_t e = 0; e < block * block; ++e) sums.data[e] *= alpha;
          const std::int64_t outs = std::min(block, b.rows - j);
          const std::int64_t ins = std::min(block, rows.rows - r);
          add_transposed(sums.rows_from(0, outs).cols_from(0, ins),
                         c.rows_from(i + r, ins).cols_from(j, outs));
        }
    }
}

} // namespace tenon::kernels

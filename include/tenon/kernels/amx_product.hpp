// SPDX-License-Identifier: Apache-2.0
// c += alpha a b^T on a matrix unit, for floats a and a bfloat16 weight b. A float is the sum of three bfloat16
// numbers (8 + 8 + 8 bits), so that each product of parts is exact in float, and no more is lost than by
// adding up floats; but the unit takes what is below 2^-126 for zero, and makes NaN of an infinite weight. The
// weight's rows are the unit's left operand, in place; a is packed as the right one, once for all threads.
// Sums are made for 32 x 32 elements, over up to 768 of the depth. Each element depends on its row and column
// alone. Cost: 6 m n k flops of the unit, which does 16 times those of a vector or more; at most 582 KiB of
// scratch. Threads share the rows of a to pack them, then the rows of b. Where a may be rounded to one bfloat16 number
// (rounded_product.hpp), it is 2 m n k, over up to 2304 of the depth.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/panels.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/tile_unit.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/weight_tile.hpp>
#include <tenon/kernels/workers.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tenon::kernels {

inline constexpr std::int64_t amx_product_rows = 128;           ///< of a, packed together
inline constexpr std::int64_t amx_product_depth = 768;          ///< of k, packed together
inline constexpr std::int64_t amx_product_block = 2 * amx_rows; ///< rows and columns of a block of sums

/// Of k, packed together for so many parts: as many bytes for each number.
[[nodiscard]] constexpr std::int64_t packed_depth(std::int64_t parts) noexcept {
  return amx_product_depth * amx_parts / parts;
}

/// bfloat16 numbers of the parts of a [rows, depth]: those of whole blocks of rows and whole tiles of the depth.
[[nodiscard]] constexpr std::int64_t part_elements(std::int64_t rows, std::int64_t depth,
                                                   std::int64_t parts = amx_parts) noexcept {
  const std::int64_t blocks = (rows + amx_product_block - 1) / amx_product_block;
  const std::int64_t steps = (depth + amx_depth - 1) / amx_depth;
  return blocks * 2 * steps * parts * amx_elements;
}

/// Scratch of `multiply_on_tiles` for a [m, k], any n. Grows with both; at most 582 KiB.
[[nodiscard]] constexpr std::int64_t amx_product_scratch_bytes(std::int64_t m, std::int64_t k) noexcept {
  const std::int64_t elements = part_elements(std::min(m, amx_product_rows), std::min(k, amx_product_depth));
  return scratch_sum({scratch_bytes<std::uint16_t>(elements), scratch_bytes<std::uint16_t>(2 * amx_elements),
                      scratch_bytes<float>(amx_product_block * amx_product_block)});
}

/// The parts of a [rows, depth], three or one: for each 16 rows and each 32 of the depth as many tiles of pairs along the
/// depth, a row of a being a column of a tile. What is past the last row or column is zero.
inline void pack_parts(const VectorKernels& kernels, ConstMatrix a, std::int64_t parts,
                       std::uint16_t* to) noexcept {
  const std::uint16_t* const end = to + part_elements(a.rows, a.cols, parts);
  alignas(64) float turned[amx_depth * amx_rows];
  for (std::int64_t r = 0; r < a.rows; r += amx_rows)
    for (std::int64_t k = 0; k < a.cols; k += amx_depth, to += parts * amx_elements) {
      const ConstMatrix tile =
          a.rows_from(r, std::min(amx_rows, a.rows - r)).cols_from(k, std::min(amx_depth, a.cols - k));
      if (tile.rows < amx_rows || tile.cols < amx_depth) std::fill_n(turned, amx_depth * amx_rows, 0.0f);
      transpose(tile, turned, amx_rows);
      if (parts == 1)
        kernels.round_pairs({turned, amx_depth, amx_rows, amx_rows}, to);
      else
        kernels.split_tile(turned, to);
    }
  std::memset(to, 0, static_cast<std::size_t>(end - to) * sizeof *to); // the half of a block without a row
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

/// sums [32, 32] = the weight's rows from `row` on times the parts of 32 rows of a, at `x`, over the depth of b.
template <TileUnit Unit>
void multiply_parts(Unit& unit, WeightMatrix b, std::int64_t row, const std::uint16_t* x, std::int64_t parts,
                    float* sums, std::uint16_t* room) noexcept {
  constexpr std::int64_t row_bytes = amx_depth * 2;
  constexpr std::int64_t stride = amx_product_block * 4;
  const std::int64_t half = part_elements(amx_product_block, b.cols, parts) / 2;
  unit.template zero<0>();
  unit.template zero<1>();
  unit.template zero<2>();
  unit.template zero<3>();
  for (std::int64_t k = 0; k < b.cols; k += amx_depth) {
    const StoredTile upper = stored_tile(b, row, k, room);
    const StoredTile lower = stored_tile(b, row + amx_rows, k, room + amx_elements);
    unit.template load<4>(upper.data, upper.stride);
    unit.template load<5>(lower.data, lower.stride);
    for (std::int64_t part = 0; part < parts; ++part, x += amx_elements) {
      unit.template load<6>(x, row_bytes);
      unit.template load<7>(x + half, row_bytes);
      unit.template multiply<0, 4, 6>();
      unit.template multiply<1, 4, 7>();
      unit.template multiply<2, 5, 6>();
      unit.template multiply<3, 5, 7>();
    }
  }
  unit.template store<0>(sums, stride);
  unit.template store<1>(sums + amx_rows, stride);
  unit.template store<2>(sums + amx_rows * amx_product_block, stride);
  unit.template store<3>(sums + amx_rows * amx_product_block + amx_rows, stride);
}

/// c [m, n] += alpha a [m, depth] b [n, depth]^T, for the parts of a.
template <TileUnit Unit>
void add_product_of_parts(const VectorKernels& kernels, const std::uint16_t* packed, std::int64_t parts,
                          WeightMatrix b, float alpha, Matrix c, Scratch scratch) {
  constexpr std::int64_t block = amx_product_block;
  const auto room = scratch.take<std::uint16_t>(2 * amx_elements);
  const Matrix sums{scratch.take<float>(block * block).data(), block, block, block};
  Unit unit;
  for (std::int64_t j = 0; j < b.rows; j += block)
    for (std::int64_t i = 0; i < c.rows; i += block) {
      multiply_parts(unit, b, j, packed + part_elements(i, b.cols, parts), parts, sums.data, room.data());
      if (alpha != 1.0f)
        for (std::int64_t e = 0; e < block * block; ++e) sums.data[e] *= alpha;
      const Matrix out =
          c.rows_from(i, std::min(block, c.rows - i)).cols_from(j, std::min(block, b.rows - j));
      kernels.add_transposed(sums.rows_from(0, out.cols).cols_from(0, out.rows), out);
    }
}

/// c [m, n] += alpha a [m, k] b [n, k]^T, with a float as the sum of `parts` bfloat16 numbers: amx_parts, or one, to which
/// it is rounded. Preconditions: b is bfloat16; c overlaps neither.
template <TileUnit Unit>
void multiply_on_tiles(const VectorKernels& kernels, ConstMatrix a, WeightMatrix b, float alpha, Matrix c,
                       Workers workers, std::int64_t parts = amx_parts) {
  constexpr std::int64_t block = amx_product_block;
  constexpr std::int64_t faster =
      16; // what the unit does in the time of one operation on vectors, for one part
  const std::int64_t step = even_part(a.cols, packed_depth(parts), amx_depth);
  const auto packed =
      workers.take<std::uint16_t>(part_elements(std::min(a.rows, amx_product_rows), step, parts));
  for (std::int64_t k = 0; k < a.cols; k += step)
    for (std::int64_t i = 0; i < a.rows; i += amx_product_rows) {
      const ConstMatrix some =
          a.rows_from(i, std::min(amx_product_rows, a.rows - i)).cols_from(k, std::min(step, a.cols - k));
      workers.share(some.rows, block, 8 * some.cols, [&](std::int64_t first, std::int64_t count, Scratch) {
        pack_parts(kernels, some.rows_from(first, count), parts,
                   packed.data() + part_elements(first, some.cols, parts));
      });
      workers.share(b.rows, block, 2 * some.rows * some.cols * parts / faster,
                    [&](std::int64_t first, std::int64_t count, Scratch scratch) {
                      add_product_of_parts<Unit>(kernels, packed.data(), parts,
                                                 b.block(first, k, count, some.cols), alpha,
                                                 c.rows_from(i, some.rows).cols_from(first, count), scratch);
                    });
    }
}

} // namespace tenon::kernels

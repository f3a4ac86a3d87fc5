// SPDX-License-Identifier: Apache-2.0
// c += alpha a b^T and c += alpha a b, where b is stored in any weight type. The operand with fewer elements
// to touch is packed into panels (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication",
// ACM TOMS 34(3), 2008); a weight [n, k] is never packed: its rows are read in place, or decoded a tile at a
// time, while the rows of a, turned round, fill the vector registers. Block sizes are constants: neither
// memory nor results depend on the machine's caches. With AMX, many rows of a and a bfloat16 weight go another
// way (amx_product.hpp). Threads share the rows of b, which are the columns of c. Cost: 2 m n k flops; at most
// 582 KiB of scratch a thread, as much for every set of instructions.
#pragma once

#include <tenon/kernels/amx_product.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/panels.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/tile_unit.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/weight_tile.hpp>
#include <tenon/kernels/workers.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tenon::kernels {

inline constexpr std::int64_t gemm_depth = 384;    ///< of k, packed together
inline constexpr std::int64_t gemm_panels = 256;   ///< columns of panels, packed together
inline constexpr std::int64_t gemm_tile_rows = 48; ///< of a weight, decoded together
inline constexpr std::int64_t gemm_few_rows = 8;   ///< of a: up to here b is streamed, nothing is packed
inline constexpr std::int64_t gemm_stream_bytes = 128 * 1024; ///< of b, read again for each of a few rows

/// Scratch of `multiply_nt` and `multiply_nn` for c [m, n] and depth k, any dtype and any set of instructions.
/// Grows with each of them; at most 582 KiB.
[[nodiscard]] constexpr std::int64_t multiply_scratch_bytes(std::int64_t m, std::int64_t n,
                                                            std::int64_t k) noexcept {
  const std::int64_t depth = std::min(k, gemm_depth);
  const std::int64_t tile = std::min(n, gemm_tile_rows);
  const auto panels = [depth](std::int64_t cols) {
    return scratch_bytes<float>(panel_floats(depth, std::min(cols, gemm_panels)));
  };
  const std::int64_t transposed = scratch_sum(
      {panels(m), scratch_bytes<float>(tile * depth), scratch_bytes<float>(tile * max_panel_width)});
  const std::int64_t plain =
      scratch_sum({panels(n), scratch_bytes<float>(std::min(n, gemm_panels)),
                   scratch_bytes<float>(std::min(m, gemm_tile_rows) * max_panel_width)});
  const std::int64_t on_tiles = m <= gemm_few_rows ? 0 : amx_product_scratch_bytes(m, k);
  return scratch_max({transposed, plain, on_tiles});
}

/// A few rows of a: b is read once, in pieces that stay in the cache for the next row.
inline void multiply_streamed(const VectorKernels& kernels, ConstMatrix a, WeightMatrix b, float alpha,
                              Matrix c) {
  const std::int64_t row_bytes = b.cols * dtype_bytes(b.dtype);
  const std::int64_t step =
      c.rows == 1 ? b.rows : std::max<std::int64_t>(gemm_stream_bytes / row_bytes / 4 * 4, 4);
  for (std::int64_t j = 0; j < b.rows; j += step) {
    const WeightMatrix piece = b.block(j, 0, std::min(step, b.rows - j), b.cols);
    for (std::int64_t i = 0; i < c.rows; ++i) kernels.dot_rows(piece, a.row(i), alpha, c.row(i) + j);
  }
}

/// c [m, n] += alpha (b [n, depth] panels [depth, m])^T for the panels of m rows of a.
inline void multiply_weight(const VectorKernels& kernels, WeightMatrix b, const float* panels, float alpha,
                            Matrix c, Scratch scratch) {
  const std::int64_t tile_rows = std::min(c.cols, gemm_tile_rows);
  const auto decoded = scratch.take<float>(tile_rows * b.cols);
  const auto turned = scratch.take<float>(tile_rows * max_panel_width);
  for (std::int64_t j = 0; j < c.cols; j += tile_rows) {
    const std::int64_t rows = std::min(tile_rows, c.cols - j);
    const ConstMatrix tile = float_tile(kernels, b.block(j, 0, rows, b.cols), decoded);
    for (std::int64_t i = 0; i < c.rows; i += kernels.width) {
      const Matrix part{turned.data(), rows, std::min(kernels.width, c.rows - i), kernels.width};
      const Matrix sums = c.rows_from(i, part.cols).cols_from(j, rows);
      fetch(sums);
      std::fill_n(part.data, rows * part.stride, 0.0f);
      kernels.multiply_panel(tile, panels + i * b.cols, alpha, part);
      kernels.add_transposed(part, sums);
    }
  }
}

/// c [m, n] += alpha a [m, k] b [n, k]^T. Precondition: c overlaps neither a nor b.
inline void multiply_nt(ConstMatrix a, WeightMatrix b, float alpha, Matrix c, Workers workers,
                        const VectorKernels& kernels = vector_kernels()) {
  assert(a.rows == c.rows && b.rows == c.cols && a.cols == b.cols && "multiply_nt: shapes [m,k] [n,k] [m,n]");
  if (c.rows == 0 || c.cols == 0 || a.cols == 0) return;
  if (c.rows <= gemm_few_rows) {
    workers.share(c.cols, 4, c.rows * a.cols, [&](std::int64_t first, std::int64_t count, Scratch) {
      multiply_streamed(kernels, a, b.block(first, 0, count, b.cols), alpha, c.cols_from(first, count));
    });
    return;
  }
#if defined(__x86_64__)
  if (kernels.set == InstructionSet::amx && b.dtype == DType::bf16) {
    multiply_on_tiles<ProcessorTiles>(kernels, a, b, alpha, c, workers);
    return;
  }
#endif
  const std::int64_t depth_step = even_part(a.cols, gemm_depth, 8);
  const auto panels = workers.take<float>(panel_floats(depth_step, std::min(c.rows, gemm_panels)));
  for (std::int64_t i = 0; i < c.rows; i += gemm_panels) {
    const std::int64_t rows = std::min(gemm_panels, c.rows - i);
    for (std::int64_t k = 0; k < a.cols; k += depth_step) {
      const std::int64_t depth = std::min(depth_step, a.cols - k);
      make_transposed_panels(a.rows_from(i, rows).cols_from(k, depth), kernels.width, panels.data());
      workers.share(c.cols, gemm_tile_rows, 2 * rows * depth,
                    [&](std::int64_t first, std::int64_t count, Scratch scratch) {
                      multiply_weight(kernels, b.block(first, k, count, depth), panels.data(), alpha,
                                      c.rows_from(i, rows).cols_from(first, count), scratch);
                    });
    }
  }
}
inline void multiply_nt(ConstMatrix a, ConstMatrix b, float alpha, Matrix c, Workers workers,
                        const VectorKernels& kernels = vector_kernels()) {
  multiply_nt(a, as_weight(b), alpha, c, workers, kernels);
}

/// c [m, n <= width] += alpha a [m, depth] panel [depth, width]; where n < width, through a padded tile.
inline void multiply_one_panel(const VectorKernels& kernels, ConstMatrix a, const float* panel, float alpha,
                               Matrix c, std::span<float> tile_room) {
  if (c.cols == kernels.width) return kernels.multiply_panel(a, panel, alpha, c);
  for (std::int64_t i = 0; i < c.rows; i += gemm_tile_rows) {
    const Matrix tile{tile_room.data(), std::min(gemm_tile_rows, c.rows - i), kernels.width, kernels.width};
    for (std::int64_t r = 0; r < tile.rows; ++r) std::copy_n(c.row(i + r), c.cols, tile.row(r));
    kernels.multiply_panel(a.rows_from(i, tile.rows), panel, alpha, tile);
    for (std::int64_t r = 0; r < tile.rows; ++r) std::copy_n(tile.row(r), c.cols, c.row(i + r));
  }
}

/// c [m, n] += alpha a [m, k] b [k, n]. Precondition: c overlaps neither a nor b.
inline void multiply_nn(ConstMatrix a, WeightMatrix b, float alpha, Matrix c, Scratch scratch,
                        const VectorKernels& kernels = vector_kernels()) {
  assert(a.rows == c.rows && b.cols == c.cols && a.cols == b.rows && "multiply_nn: shapes [m,k] [k,n] [m,n]");
  if (c.rows == 0 || c.cols == 0 || a.cols == 0) return;
  const std::int64_t depth_step = even_part(a.cols, gemm_depth, 8);
  const auto panels = scratch.take<float>(panel_floats(depth_step, std::min(c.cols, gemm_panels)));
  const auto row = scratch.take<float>(std::min(c.cols, gemm_panels));
  const auto tile = scratch.take<float>(std::min(c.rows, gemm_tile_rows) * max_panel_width);
  for (std::int64_t j = 0; j < c.cols; j += gemm_panels) {
    const std::int64_t cols = std::min(gemm_panels, c.cols - j);
    for (std::int64_t k = 0; k < a.cols; k += depth_step) {
      const std::int64_t depth = std::min(depth_step, a.cols - k);
      for (std::int64_t r = 0; r < depth; ++r) {
        const ConstMatrix values = float_tile(kernels, b.block(k + r, j, 1, cols), row);
        set_panel_row(values.data, cols, depth, r, kernels.width, panels.data());
      }
      for (std::int64_t p = 0; p < cols; p += kernels.width)
        multiply_one_panel(kernels, a.cols_from(k, depth), panels.data() + p * depth, alpha,
                           c.cols_from(j + p, std::min(kernels.width, cols - p)), tile);
    }
  }
}
inline void multiply_nn(ConstMatrix a, ConstMatrix b, float alpha, Matrix c, Scratch scratch,
                        const VectorKernels& kernels = vector_kernels()) {
  multiply_nn(a, as_weight(b), alpha, c, scratch, kernels);
}

} // namespace tenon::kernels

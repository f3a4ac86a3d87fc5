// SPDX-License-Identifier: Apache-2.0
// Orthogonal matrices in blocks, as a kernel uses them. R = R_{m-1} ... R_0, where stage i is P_i^T B_i P_i:
// B_i has blocks of b x b on its diagonal, and P_i sends the two halves of each group of 2^i b positions,
// `unit` at a time, to alternate places. OFT (arXiv 2306.07280) is one stage without a permutation, BOFT
// (arXiv 2311.06243) several. R acts on a weight's rows, R(W) = R W, or on its columns, R(W) = W R^T; then
// each row may be rescaled. Cost: stages * size * b products a vector; nothing of the size of R or P is ever
// formed.
#pragma once

#include <tenon/kernels/delta_term.hpp>
#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/panels.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/workers.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>

namespace tenon::kernels {

enum class RotatedAxis : std::uint8_t { rows, cols };

/// What a strength s other than 1 does.
enum class RotationStrength : std::uint8_t {
  whole,  ///< Delta = s (R(W) - W)
  stages, ///< every stage is s R_i + (1 - s) I, and the rescale is in full: LyCORIS's multiplier
};

struct Rotation {
  RotatedAxis axis = RotatedAxis::rows;
  RotationStrength strength = RotationStrength::whole;
  std::int64_t size = 0;          ///< of the axis
  std::int64_t block = 0;         ///< b
  std::int64_t stages = 1;        ///< m
  std::int64_t stored = 0;        ///< blocks of a stage: size / b, or 1 that all share
  std::int64_t unit = 0;          ///< 0: no permutation
  const float* blocks = nullptr;  ///< [stages, stored, b, b]
  const float* rescale = nullptr; ///< [rows of W], or none

  [[nodiscard]] ConstMatrix block_at(std::int64_t stage, std::int64_t i) const noexcept {
    const std::int64_t number = stage * stored + (stored == 1 ? 0 : i);
    return {blocks + number * block * block, block, block, block};
  }
  /// Positions that a position may reach: R is diagonal in groups of so many.
  [[nodiscard]] std::int64_t group() const noexcept { return unit == 0 ? block : block << (stages - 1); }
  /// The place before P_stage of what it sends to `position`.
  [[nodiscard]] std::int64_t source(std::int64_t stage, std::int64_t position) const noexcept {
    if (unit == 0) return position;
    const std::int64_t group_size = block << stage;
    const std::int64_t at = position % group_size;
    const std::int64_t chunk = at / unit;
    return position - at + chunk % 2 * (group_size / 2) + chunk / 2 * unit + at % unit;
  }
};

/// R v, or R^T v.
enum class Turn : std::uint8_t { forward, back };

/// Scratch of `rotate` for `rows` vectors of `size`, any rotation, a thread.
[[nodiscard]] constexpr std::int64_t rotate_scratch_bytes(std::int64_t rows, std::int64_t size) noexcept {
  const std::int64_t padded = panel_floats(1, size);
  return scratch_sum(
      {2 * scratch_bytes<float>(rows * padded),
       scratch_max({scratch_bytes<float>(panel_floats(size, 1)), multiply_scratch_bytes(rows, size, size)})});
}

/// One block of one stage, for all rows of v, of which column 0 is the axis's `first`.
inline void rotate_block(const VectorKernels& kernels, const Rotation& rotation, std::int64_t stage,
                         std::int64_t i, Turn turn, float strength, std::int64_t first, Matrix v,
                         Scratch scratch) {
  const std::int64_t b = rotation.block;
  const Matrix from{scratch.take<float>(v.rows * b).data(), v.rows, b, b};
  const std::int64_t padded = panel_floats(1, b, kernels.width);
  const Matrix to{scratch.take<float>(v.rows * padded).data(), v.rows, b,
                  padded}; // with room for whole panels
  for (std::int64_t k = 0; k < b; ++k) {
    const std::int64_t at = rotation.source(stage, i * b + k) - first;
    for (std::int64_t r = 0; r < v.rows; ++r) from.row(r)[k] = v.row(r)[at];
  }
  std::fill_n(to.data, to.rows * to.stride, 0.0f);
  const ConstMatrix matrix = rotation.block_at(stage, i);
  if (turn == Turn::back) {
    multiply_nn(from, matrix, 1.0f, to, scratch, kernels);
  } else { // unlike multiply_nt, bit for bit the same for any number of rows
    float* const panel = scratch.take<float>(panel_floats(b, 1, kernels.width)).data();
    for (std::int64_t k = 0; k < b; k += kernels.width) {
      make_transposed_panels(matrix.rows_from(k, std::min(kernels.width, b - k)), kernels.width, panel);
      kernels.multiply_panel(from, panel, 1.0f, {to.data + k, to.rows, kernels.width, padded});
    }
  }
  for (std::int64_t k = 0; k < b; ++k) {
    const std::int64_t at = rotation.source(stage, i * b + k) - first;
    for (std::int64_t r = 0; r < v.rows; ++r)
      v.row(r)[at] =
          strength == 1.0f ? to.row(r)[k] : strength * to.row(r)[k] + (1.0f - strength) * from.row(r)[k];
  }
}

/// Each row of v becomes R v, or R^T v; every stage is taken at `strength`. v has some whole groups of the
/// axis, from `first` on. Threads share the blocks of a stage; the bits are those of any number of threads
/// and rows.
inline void rotate(const VectorKernels& kernels, const Rotation& rotation, Turn turn, float strength,
                   std::int64_t first, Matrix v, const Workers& workers) {
  assert(first % rotation.group() == 0 && v.cols % rotation.group() == 0 && first + v.cols <= rotation.size &&
         "rotate: whole groups of the rotated axis");
  for (std::int64_t s = 0; s < rotation.stages; ++s) {
    const std::int64_t stage = turn == Turn::forward ? s : rotation.stages - 1 - s;
    workers.share(v.cols / rotation.block, 1, 2 * v.rows * rotation.block * rotation.block,
                  [&](std::int64_t begin, std::int64_t count, Scratch scratch) {
                    for (std::int64_t i = begin; i < begin + count; ++i)
                      rotate_block(kernels, rotation, stage, first / rotation.block + i, turn, strength,
                                   first, v, scratch);
                  });
  }
}

} // namespace tenon::kernels

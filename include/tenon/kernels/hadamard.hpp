// SPDX-License-Identifier: Apache-2.0
// y += alpha x ((B1 A1) (*) (B2 A2))^T, LoHa's side path (arXiv 2108.06098) without any block of its delta. A
// product by elements of two low-rank matrices has rank r1 r2 (its factors are products of rows of B1 and B2,
// and of A1 and A2), so y_j = sum_ab B1[j][a] B2[j][b] C[a][b] with C = (A1 diag(x)) A2^T, [r1, r2] for a row
// x. Cost: 2 r1 r2 (in + out) flops a row, for ranks up to 64: `is_hadamard_cheaper` says when that beats
// forming the delta. Scratch is one constant. Threads share the rows of x.
#pragma once

#include <tenon/kernels/delta_term.hpp>
#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/weight_tile.hpp>
#include <tenon/kernels/workers.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>

namespace tenon::kernels {

inline constexpr std::int64_t hadamard_rank = 64; ///< of each product, at most

/// Scratch of `add_hadamard`, any shapes, a thread.
inline constexpr std::int64_t hadamard_scratch_bytes = scratch_sum(
    {scratch_bytes<float>(hadamard_rank * gemm_depth), scratch_bytes<float>(hadamard_rank* hadamard_rank),
     3 * scratch_bytes<float>(gemm_tile_rows* hadamard_rank),
     multiply_scratch_bytes(hadamard_rank, hadamard_rank, gemm_depth)});

/// Whether `add_hadamard` takes these factors, and does less for `rows` rows than forming P for all of them
/// would.
[[nodiscard]] inline bool is_hadamard_cheaper(const Factored& first, const Factored& second,
                                              std::int64_t rows) noexcept {
  if (!first.is_product() || !second.is_product()) return false;
  const std::int64_t r1 = first.left.cols;
  const std::int64_t r2 = second.left.cols;
  if (r1 > hadamard_rank || r2 > hadamard_rank) return false;
  const std::int64_t size = first.rows() * first.cols();
  return rows * r1 * r2 * (first.rows() + first.cols()) < (rows + r1 + r2) * size;
}

/// One row.
inline void add_hadamard_row(const VectorKernels& kernels, const float* x, const Factored& first,
                             const Factored& second, float alpha, float* y, Scratch scratch) {
  const std::int64_t r1 = first.left.cols;
  const std::int64_t r2 = second.left.cols;
  float* const weighted_room = scratch.take<float>(r1 * gemm_depth).data();
  const Matrix c{scratch.take<float>(r1 * r2).data(), r1, r2, r2};
  float* const b1_room = scratch.take<float>(gemm_tile_rows * r1).data();
  float* const b2_room = scratch.take<float>(gemm_tile_rows * r2).data();
  float* const sums_room = scratch.take<float>(gemm_tile_rows * r2).data();
  std::fill_n(c.data, r1 * r2, 0.0f);
  for (std::int64_t k = 0; k < first.cols(); k += gemm_depth) {
    const std::int64_t depth = std::min(gemm_depth, first.cols() - k);
    const Matrix weighted{weighted_room, r1, depth, depth};
    decode_rows(kernels, first.right.block(0, k, r1, depth), 0, weighted);
    for (std::int64_t a = 0; a < r1; ++a)
      for (std::int64_t i = 0; i < depth; ++i) weighted.row(a)[i] *= x[k + i];
    multiply_nt(weighted, second.right.block(0, k, r2, depth), 1.0f, c, scratch, kernels);
  }
  for (std::int64_t j = 0; j < first.rows(); j += gemm_tile_rows) {
    const std::int64_t rows = std::min(gemm_tile_rows, first.rows() - j);
    const Matrix b1{b1_room, rows, r1, r1};
    const Matrix b2{b2_room, rows, r2, r2};
    const Matrix sums{sums_room, rows, r2, r2};
    decode_rows(kernels, first.left, j, b1);
    decode_rows(kernels, second.left, j, b2);
    std::fill_n(sums.data, rows * r2, 0.0f);
    multiply_nn(b1, c, 1.0f, sums, scratch, kernels);
    for (std::int64_t i = 0; i < rows; ++i) {
      float sum = 0;
      for (std::int64_t b = 0; b < r2; ++b) sum += sums.row(i)[b] * b2.row(i)[b];
      y[j + i] += alpha * sum;
    }
  }
}

/// y [rows, out] += alpha x [rows, in] (first (*) second)^T. Precondition: both are products of ranks up to
/// `hadamard_rank`; y overlaps nothing else.
inline void add_hadamard(const VectorKernels& kernels, ConstMatrix x, const Factored& first,
                         const Factored& second, float alpha, Matrix y, const Workers& workers) {
  assert(first.is_product() && second.is_product() && first.left.cols <= hadamard_rank &&
         second.left.cols <= hadamard_rank && x.cols == first.cols() && y.cols == first.rows() &&
         "add_hadamard: [out,r] [r,in] of small rank, twice, for x [n,in] and y [n,out]");
  const std::int64_t cost = 2 * first.left.cols * second.left.cols * (x.cols + y.cols);
  workers.share(x.rows, 1, cost, [&](std::int64_t begin, std::int64_t total, Scratch scratch) {
    for (std::int64_t i = begin; i < begin + total; ++i)
      add_hadamard_row(kernels, x.row(i), first, second, alpha, y.row(i), scratch);
  });
}

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// y += alpha x (F (x) S)^T, LoKr's side path (arXiv 2309.14859, section 3): a row x of q d numbers is X [q,
// d], its result Y [p, c] = F (X S^T), for F [p, q] and S [c, d], each stored or a product of two. The
// Kronecker product, which is p c by q d, is never formed; a convolution's kernel lies in the columns of S.
// Cost: 2 q (c d + p c) flops a row where S is stored; scratch as `kronecker_scratch_bytes`. Threads share
// the rows of x.
#pragma once

#include <tenon/kernels/delta_term.hpp>
#include <tenon/kernels/factored.hpp>
#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/workers.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>

namespace tenon::kernels {

inline constexpr std::int64_t kronecker_rows = 32;           ///< of x, taken together at most
inline constexpr std::int64_t kronecker_floats = 128 * 1024; ///< of X S^T, made together

/// Scratch of `add_kronecker` for y [rows, out] and x [rows, in], any factors, a thread.
[[nodiscard]] constexpr std::int64_t kronecker_scratch_bytes(std::int64_t out, std::int64_t in) noexcept {
  const std::int64_t most = std::max({out, in, gemm_depth, gemm_panels});
  return scratch_sum({2 * scratch_bytes<float>(std::max(kronecker_floats, in)),
                      scratch_bytes<float>(kronecker_rows * in), scratch_bytes<float>(delta_strip_rows * in),
                      scratch_bytes<float>(delta_strip_rows * delta_depth),
                      multiply_scratch_bytes(most, most, most)});
}

/// Rows of x that go together: as many as keep one column of X S^T within bounds.
[[nodiscard]] inline std::int64_t kronecker_batch(const Factored& first) noexcept {
  return std::clamp<std::int64_t>(kronecker_floats / first.cols(), 1, kronecker_rows);
}

/// inner [x.rows, some of c] = x S^T, for the rows of S from `k` on; a product S through its rank, a part at
/// a time.
inline void multiply_by_second(const VectorKernels& kernels, ConstMatrix x, const Factored& second,
                               std::int64_t k, Matrix inner, float* thin_room, Scratch scratch) {
  std::fill_n(inner.data, inner.rows * inner.cols, 0.0f);
  if (!second.is_product())
    return multiply_nt(x, second.left.block(k, 0, inner.cols, x.cols), 1.0f, inner, scratch, kernels);
  const std::int64_t step = std::max<std::int64_t>(kronecker_floats / x.rows, 1);
  for (std::int64_t r = 0; r < second.left.cols; r += step) {
    const std::int64_t rank = std::min(step, second.left.cols - r);
    const Matrix thin{thin_room, x.rows, rank, rank};
    std::fill_n(thin.data, thin.rows * rank, 0.0f);
    multiply_nt(x, second.right.block(r, 0, rank, x.cols), 1.0f, thin, scratch, kernels);
    multiply_nt(thin, second.left.block(k, r, inner.cols, rank), 1.0f, inner, scratch, kernels);
  }
}

/// A batch of rows; some columns of X S^T at a time.
inline void add_kronecker_batch(const VectorKernels& kernels, ConstMatrix x, const Factored& first,
                                const Factored& second, float alpha, Matrix y, Scratch scratch) {
  const std::int64_t p = first.rows();
  const std::int64_t q = first.cols();
  const std::int64_t c = second.rows();
  const std::int64_t d = second.cols();
  ConstMatrix rows{x.data, x.rows * q, d, d};
  if (x.stride != x.cols && x.rows > 1) {
    float* const copy = scratch.take<float>(x.rows * x.cols).data();
    for (std::int64_t i = 0; i < x.rows; ++i) std::copy_n(x.row(i), x.cols, copy + i * x.cols);
    rows.data = copy;
  }
  const std::int64_t step = std::max<std::int64_t>(kronecker_floats / rows.rows, 1);
  float* const inner_room = scratch.take<float>(std::max(kronecker_floats, q)).data();
  float* const thin_room = scratch.take<float>(std::max(kronecker_floats, q)).data();
  float* const outer_room = scratch.take<float>(delta_strip_rows * q).data();
  for (std::int64_t k = 0; k < c; k += step) {
    const Matrix inner{inner_room, rows.rows, std::min(step, c - k), std::min(step, c - k)};
    multiply_by_second(kernels, rows, second, k, inner, thin_room, scratch);
    for (std::int64_t j = 0; j < p; j += delta_strip_rows) {
      const Matrix outer{outer_room, std::min(delta_strip_rows, p - j), q, q};
      std::fill_n(outer.data, outer.rows * q, 0.0f);
      add_factored(kernels, first, j, 0, 1.0f, outer, scratch);
      for (std::int64_t i = 0; i < x.rows; ++i)
        multiply_nn(outer, inner.rows_from(i * q, q), alpha,
                    {y.row(i) + j * c + k, outer.rows, inner.cols, c}, scratch, kernels);
    }
  }
}

/// y [rows, p c] += alpha x [rows, q d] (first (x) second)^T. Precondition: y overlaps nothing else.
inline void add_kronecker(const VectorKernels& kernels, ConstMatrix x, const Factored& first,
                          const Factored& second, float alpha, Matrix y, const Workers& workers) {
  assert(x.cols == first.cols() * second.cols() && y.cols == first.rows() * second.rows() &&
         "add_kronecker: first [p,q] and second [c,d] for x [n,qd] and y [n,pc]");
  const std::int64_t batch = kronecker_batch(first);
  const std::int64_t cost = 2 * second.rows() * (x.cols + first.rows() * first.cols());
  workers.share(x.rows, batch, cost, [&](std::int64_t begin, std::int64_t total, Scratch scratch) {
    for (std::int64_t i = begin; i < begin + total; i += batch) {
      const std::int64_t count = std::min(batch, begin + total - i);
      add_kronecker_batch(kernels, x.rows_from(i, count), first, second, alpha, y.rows_from(i, count),
                          scratch);
    }
  });
}

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// The LoRA side path on a device (Hu et al., arXiv:2106.09685, section 4.1): y += s_i (x A_i^T) B_i^T, term by term, as
// two thin products and one pass over what lies between them. Ranks beyond 512 go in parts. What lies between is floats;
// a product over factors of 16 bits may round it to their type, as PyTorch has it in a model of that type. Cost: 2 rows
// rank (in + out) flops a term; 2 KiB of scratch for each row, 4 MiB, and the products' own.
#pragma once

#include <tenon/gpu/products.hpp>
#include <tenon/gpu/queue.hpp>
#include <tenon/gpu/row_col.hpp>
#include <tenon/gpu/scratch.hpp>
#include <tenon/gpu/storage.hpp>
#include <tenon/graph/step.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>

namespace tenon::gpu {

inline constexpr std::int64_t side_rank = 512;             ///< of a term, taken together
inline constexpr std::int64_t gained_floats = 1024 * 1024; ///< of B with its row gains, made together

/// Scratch of `add_side_terms` for x [rows, in], y [rows, out] and any terms. Grows with each of them.
[[nodiscard]] constexpr std::int64_t side_scratch_bytes(std::int64_t rows, std::int64_t out,
                                                        std::int64_t in) noexcept {
  return DeviceScratch::rounded(rows * side_rank * 4) + DeviceScratch::rounded(gained_floats * 4) +
         product_scratch_bytes(rows, std::max(out, side_rank), std::max(in, side_rank));
}

/// s[i, r] *= scale * rank_gain[r]
struct ScaleRanks {
  float* s;
  std::int64_t rank;
  std::int64_t stride;
  float scale;
  const float* scale_at;  ///< null: `scale`
  const float* rank_gain; ///< null: ones

  TENON_HD void operator()(std::int64_t i) const {
    const RowCol at = row_col(i, rank);
    float factor = scale_at == nullptr ? scale : *scale_at;
    if (rank_gain != nullptr) factor *= rank_gain[at.col];
    s[at.row * stride + at.col] *= factor;
  }
};

/// to[i, r] = row_gain[i] B[i, r]
template <class Storage>
struct GainRows {
  StoredPointer<Storage> b;
  std::int64_t stride;
  const float* row_gain;
  float* to;
  std::int64_t rank;
  std::int64_t to_stride;

  TENON_HD void operator()(std::int64_t i) const {
    const RowCol at = row_col(i, rank);
    to[at.row * to_stride + at.col] = row_gain[at.row] * b[at.row * stride + at.col];
  }
};

/// y [rows, b.rows] += s b^T, of which column i is multiplied by row_gain[i]; b with its gains is made a part at a time,
/// since y must not be multiplied and a product of its own would need a second y.
inline void expand_with_gains(Queue& queue, Products& products, kernels::ConstMatrix s,
                              const kernels::WeightMatrix& b, const float* row_gain, kernels::Matrix y,
                              DeviceScratch scratch) {
  float* const gained = scratch.take<float>(gained_floats);
  const std::int64_t step = gained_floats / s.stride;
  for (std::int64_t i = 0; i < b.rows; i += step) {
    const std::int64_t count = std::min(step, b.rows - i);
    with_storage(b.dtype, [&]<class Storage>(Storage) {
      for_each_index(queue, count * b.cols,
                     GainRows<Storage>{StoredPointer<Storage>(b.at(i, 0)), b.stride, row_gain + i, gained,
                                       b.cols, s.stride});
    });
    products.multiply(queue, s,
                      {reinterpret_cast<const std::byte*>(gained), DType::f32, count, b.cols, s.stride},
                      y.cols_from(i, count), 1.0f, scratch.rest());
  }
}

/// y [rows, out] += scale (x [rows, in] A^T) B^T for the outputs that `term` has, with its gains.
inline void add_side_term(Queue& queue, Products& products, const kernels::LowRankTerm& term,
                          kernels::ConstMatrix x, kernels::Matrix y, DeviceScratch scratch) {
  assert(term.a.cols == x.cols && term.b.cols == term.a.rows && "add_side_term: A [rank,in], B [rows,rank]");
  const kernels::RowWindow window = kernels::row_window(term, 0, y.cols);
  if (window.count == 0) return;
  float* const shrunk = scratch.take<float>(x.rows * side_rank);
  for (std::int64_t r = 0; r < term.a.rows; r += side_rank) {
    const std::int64_t rank = std::min(side_rank, term.a.rows - r);
    const kernels::Matrix s{shrunk, x.rows, rank, rounded_stride(rank)};
    const kernels::WeightMatrix b = term.b.block(window.row, r, window.count, rank);
    const kernels::Matrix part = y.cols_from(window.begin, window.count);
    products.multiply(queue, x, term.a.block(r, 0, rank, x.cols), s, 0.0f, scratch.rest());
    for_each_index(queue, s.rows * rank,
                   ScaleRanks{s.data, rank, s.stride, term.scale, term.scale_at,
                              term.rank_gain == nullptr ? nullptr : term.rank_gain + r});
    if (term.row_gain == nullptr)
      products.multiply(queue, s, b, part, 1.0f, scratch.rest());
    else
      expand_with_gains(queue, products, s, b, term.row_gain + window.row, part, scratch);
  }
}

/// y += the slot's side terms, in the order of attachment. The list's nodes are the host's, what they view the device's.
/// Throws `error{wrong_dtype}`, `error{device_failed}`.
inline void add_side_terms(Queue& queue, Products& products, const AttachedList<kernels::LowRankTerm>& terms,
                           kernels::ConstMatrix x, kernels::Matrix y, DeviceScratch scratch) {
  for (const SideTerm* side = terms.first; side != nullptr; side = side->next)
    add_side_term(queue, products, side->term, x, y, scratch);
}

} // namespace tenon::gpu

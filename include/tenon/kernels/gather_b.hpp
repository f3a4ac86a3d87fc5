// SPDX-License-Identifier: Apache-2.0
// Rows of the terms' B as floats, their ranks end to end, each times its term's scale and gains: one operand of the merge
// and of the side path.
#pragma once

#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/vector_kernels.hpp>

#include <algorithm>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// values [count] = row `row` of B from rank `first` on, times the term's scale and gains.
inline void gather_row_of_b(const VectorKernels& kernels, const LowRankTerm& term, std::int64_t row,
                            std::int64_t first, std::int64_t count, float* values) noexcept {
  kernels.decode(term.b.dtype, term.b.at(row, first), count, values);
  const float gain = term.row_gain == nullptr ? term.scale : term.row_gain[row] * term.scale;
  for (std::int64_t k = 0; k < count; ++k) values[k] *= gain;
  if (term.rank_gain == nullptr) return;
  for (std::int64_t k = 0; k < count; ++k) values[k] *= term.rank_gain[first + k];
}

/// to [rows, rank] = what the terms have of B for the weight's rows from `row` on, each term's times its
/// scale and its gains, for a range of all ranks; zeros where a term has no such row.
inline void gather_b(const VectorKernels& kernels, std::span<const LowRankTerm> terms, std::int64_t begin,
                     std::int64_t row, Matrix to) noexcept {
  visit_ranks(terms, begin, to.cols,
              [&](const LowRankTerm& term, std::int64_t first, std::int64_t count, std::int64_t at) {
                const RowWindow window = row_window(term, row, to.rows);
                const bool is_plain = term.row_gain == nullptr && term.rank_gain == nullptr;
                if (is_plain && window.count == to.rows && count == to.cols && term.b.stride == count) {
                  kernels.decode(term.b.dtype, term.b.at(window.row, 0), to.rows * count, to.data);
                  for (std::int64_t k = 0; k < to.rows * count; ++k) to.data[k] *= term.scale; // as stored
                  return;
                }
                for (std::int64_t i = 0; i < to.rows; ++i) {
                  const std::int64_t at_row = i - window.begin;
                  if (at_row < 0 || at_row >= window.count)
                    std::fill_n(to.row(i) + at, count, 0.0f);
                  else
                    gather_row_of_b(kernels, term, window.row + at_row, first, count, to.row(i) + at);
                }
              });
}

} // namespace tenon::kernels

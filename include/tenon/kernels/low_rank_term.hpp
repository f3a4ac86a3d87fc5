// SPDX-License-Identifier: Apache-2.0
// What an adapter is to a kernel: two factors and a scale; and several adapters as one, their ranks laid end
// to end, so that any number of them is a single pair of products or a single pass over a weight.
#pragma once

#include <tenon/kernels/matrix.hpp>

#include <algorithm>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// One adapter at one weight [out, in]: its delta is scale * B A (Hu et al., arXiv:2106.09685, section 4.1),
/// or scale * diag(row_gain) B diag(rank_gain) A (VeRA's two vectors, arXiv 2310.11454, equation 2).
struct LowRankTerm {
  WeightMatrix a{};   ///< [rank, in]; kohya's lora_down
  WeightMatrix b{};   ///< [out, rank]; kohya's lora_up
  float scale = 1.0f; ///< alpha / rank (rsLoRA: alpha / sqrt(rank)) times the user's weight

  const float* row_gain = nullptr;  ///< [rows of b]: row i of B is multiplied by row_gain[i]
  const float* rank_gain = nullptr; ///< [rank]: column r of B is multiplied by rank_gain[r]
  /// Row i of B belongs to the weight's row first_row + i; rows of the weight beyond B's get nothing. So an
  /// adapter of one of several projections fits the weight that holds them all.
  std::int64_t first_row = 0;
  /// Of a term beside a weight on a device: where `scale` lies in the device's memory, so that a recorded pass reads a
  /// later one.
  const float* scale_at = nullptr;
};

/// Rows of B for rows of the weight.
struct RowWindow {
  std::int64_t begin = 0; ///< the first of the weight's rows that B has, counted from the range's first
  std::int64_t count = 0;
  std::int64_t row = 0; ///< of B, for the first of them
};

/// Which of the weight's rows [first, first + count) `term` changes.
[[nodiscard]] inline RowWindow row_window(const LowRankTerm& term, std::int64_t first,
                                          std::int64_t count) noexcept {
  const std::int64_t begin = std::clamp<std::int64_t>(term.first_row - first, 0, count);
  const std::int64_t end = std::clamp<std::int64_t>(term.first_row + term.b.rows - first, begin, count);
  return {begin, end - begin, first + begin - term.first_row};
}

/// Operations to form B A and add it to a weight.
[[nodiscard]] inline std::int64_t merge_flops(const WeightMatrix& a, const WeightMatrix& b) noexcept {
  return 2 * a.rows * a.cols * b.rows;
}
/// Operations of the two thin products, for one row.
[[nodiscard]] inline std::int64_t side_flops(const WeightMatrix& a, const WeightMatrix& b) noexcept {
  return 2 * a.rows * (a.cols + b.rows);
}

/// The ranks of all terms together.
[[nodiscard]] inline std::int64_t total_rank(std::span<const LowRankTerm> terms) noexcept {
  std::int64_t rank = 0;
  for (const LowRankTerm& term : terms) rank += term.a.rows;
  return rank;
}

/// The part of one term that lies in a range of the ranks of all: `f(term, first, count, at)` means the
/// term's ranks [first, first + count), which are the range's [at, at + count).
template <class F>
void visit_ranks(std::span<const LowRankTerm> terms, std::int64_t begin, std::int64_t size, F f) {
  std::int64_t start = 0; // of the term, among all
  for (const LowRankTerm& term : terms) {
    const std::int64_t first = std::max(begin, start);
    const std::int64_t last = std::min(begin + size, start + term.a.rows);
    if (first < last) f(term, first - start, last - first, first - begin);
    start += term.a.rows;
  }
}

} // namespace tenon::kernels

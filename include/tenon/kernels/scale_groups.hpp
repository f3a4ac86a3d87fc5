// SPDX-License-Identifier: Apache-2.0
// The terms of a merge by their scales, for units that multiply factors as they are stored and apply a scale to the
// product: terms of one scale are one product. The depth of a product is in steps of so many ranks as the unit takes at
// once; the last step of a scale is filled up with zeros.
#pragma once

#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// For each scale among the terms, in the order of the first with it: `f(scale, first, count)`, its steps along the depth
/// being [first, first + count) of all. Returns the number of all.
template <class F>
std::int64_t visit_scales(std::span<const LowRankTerm> terms, std::int64_t ranks_of_step, F f) {
  std::int64_t first = 0;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    std::int64_t rank = 0;
    bool is_new = true;
    for (std::size_t j = 0; j < terms.size(); ++j) {
      if (!(terms[j].scale == terms[i].scale)) continue;
      is_new = is_new && j >= i;
      rank += terms[j].a.rows;
    }
    const std::int64_t count = (rank + ranks_of_step - 1) / ranks_of_step;
    if (!is_new || count == 0) continue;
    f(terms[i].scale, first, count);
    first += count;
  }
  return first;
}

/// Steps of all scales.
[[nodiscard]] inline std::int64_t count_steps(std::span<const LowRankTerm> terms,
                                              std::int64_t ranks_of_step) {
  return visit_scales(terms, ranks_of_step, [](float, std::int64_t, std::int64_t) {});
}

/// Where the ranks of each term lie, one after the other: `f(term, place)`, its first being the place'th of all, where a
/// step's are counted whole.
template <class F>
void visit_scaled_terms(std::span<const LowRankTerm> terms, std::int64_t ranks_of_step, F f) {
  visit_scales(terms, ranks_of_step, [&](float scale, std::int64_t first, std::int64_t) {
    std::int64_t place = first * ranks_of_step;
    for (const LowRankTerm& term : terms)
      if (term.scale == scale) {
        f(term, place);
        place += term.a.rows;
      }
  });
}

/// Whether all factors are bfloat16, no scale is NaN, no term has gains, which a unit of bfloat16 would round, and the
/// depth is within bounds: a matter of the terms, not of rows.
[[nodiscard]] inline bool fits_bf16_unit(std::span<const LowRankTerm> terms, std::int64_t ranks_of_step,
                                         std::int64_t most_steps) noexcept {
  bool fits = true;
  for (const LowRankTerm& term : terms)
    fits = fits && term.a.dtype == DType::bf16 && term.b.dtype == DType::bf16 && term.scale == term.scale &&
           term.row_gain == nullptr && term.rank_gain == nullptr;
  return fits && count_steps(terms, ranks_of_step) <= most_steps;
}

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// What adapters do to a module's bias: differences that are added, values that take its place, factors. The
// stored bias is never written; the row that a layer adds is made from it for every pass. Cost: out operations a
// term. Any thread.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

namespace tenon::kernels {

enum class BiasAction : std::uint8_t {
  add,      ///< b + scale v
  replace,  ///< b + scale (v - b)
  scale_by, ///< b + scale (v - 1) b
  grow_by,  ///< b + scale v b
};

/// A change of the elements from `first` on; b is the module's own bias (0 where it has none), so that several
/// terms add up in any order.
struct BiasTerm {
  WeightVector values{};
  float scale = 1.0f;
  BiasAction action = BiasAction::add;
  std::int64_t first = 0;
};

/// row [out] += what `term` changes of `bias`.
inline void add_bias_term(const BiasTerm& term, WeightVector bias, std::span<float> row) noexcept {
  constexpr std::int64_t step = 64;
  std::array<float, step> values;
  std::array<float, step> own;
  for (std::int64_t i = 0; i < term.values.size; i += step) {
    const std::int64_t count = std::min(step, term.values.size - i);
    decode(term.values.dtype, term.values.at(i), count, values.data());
    own.fill(0.0f);
    if (!bias.empty()) decode(bias.dtype, bias.at(term.first + i), count, own.data());
    for (std::int64_t k = 0; k < count; ++k) {
      const auto at = static_cast<std::size_t>(k);
      float change = values[at];
      if (term.action == BiasAction::replace) change -= own[at];
      if (term.action == BiasAction::scale_by) change = (change - 1.0f) * own[at];
      if (term.action == BiasAction::grow_by) change *= own[at];
      row[static_cast<std::size_t>(term.first + i + k)] += term.scale * change;
    }
  }
}

} // namespace tenon::kernels

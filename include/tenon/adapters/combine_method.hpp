// SPDX-License-Identifier: Apache-2.0
// The ways to make one adapter of several, under the names that PEFT's add_weighted_adapter has for them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tenon {

/// `*_svd` work on the deltas and take the best pair of a rank at the end; those without work on A and B apart,
/// which mixes the factors of different adapters and is an approximation by nature. `cat` and `svd` form the
/// weighted sum of the deltas; `cat` is exact.
enum class CombineMethod : std::uint8_t {
  cat,
  linear,
  svd,
  ties,
  ties_svd,
  dare_linear,
  dare_linear_svd,
  dare_ties,
  dare_ties_svd,
  magnitude_prune,
  magnitude_prune_svd,
};

enum class Pruning : std::uint8_t { none, magnitude, random };

/// What a method is made of.
struct CombineRecipe {
  std::string_view name;
  Pruning pruning = Pruning::none;
  bool elects_signs = false;
  bool on_deltas = false; ///< and not on A and B
};

inline constexpr std::array<CombineRecipe, 11> combine_recipes{{
    {"cat"},
    {"linear"},
    {"svd", Pruning::none, false, true},
    {"ties", Pruning::magnitude, true, false},
    {"ties_svd", Pruning::magnitude, true, true},
    {"dare_linear", Pruning::random, false, false},
    {"dare_linear_svd", Pruning::random, false, true},
    {"dare_ties", Pruning::random, true, false},
    {"dare_ties_svd", Pruning::random, true, true},
    {"magnitude_prune", Pruning::magnitude, false, false},
    {"magnitude_prune_svd", Pruning::magnitude, false, true},
}};

[[nodiscard]] constexpr const CombineRecipe& recipe_of(CombineMethod method) noexcept {
  return combine_recipes[static_cast<std::size_t>(method)];
}
[[nodiscard]] constexpr std::optional<CombineMethod>
combine_method_from_name(std::string_view name) noexcept {
  for (std::size_t i = 0; i < combine_recipes.size(); ++i)
    if (combine_recipes[i].name == name) return static_cast<CombineMethod>(i);
  return std::nullopt;
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Whole adapters as one: `combine` at each module that any of them has. As in PEFT, a module that only some of the
// adapters have is made of those, and a single adapter is only weighted; but `svd` gives it the rank asked for.
// Cost: that of `combine`, module after module. One thread.
#pragma once

#include <tenon/adapters/combine.hpp>
#include <tenon/adapters/lora_pair.hpp>
#include <tenon/core/compiled.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

struct WeightedSet {
  const LoraSet* set = nullptr;
  double weight = 1;
};

/// What was made of one module.
struct CombinedModule {
  std::string path{};
  KeptRank kept{};
  double error = 0; ///< of an SVD's truncation
};

struct CombinedSet {
  LoraSet set{};
  std::vector<CombinedModule> modules{}; ///< as in `set`
};

/// A number for a name (FNV-1a, 64 bits).
[[nodiscard]] constexpr std::uint64_t name_seed(std::string_view name) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  return hash;
}

template <class Items>
[[nodiscard]] auto find_path(Items& items, std::string_view path) noexcept {
  auto* at = items.data();
  while (at != items.data() + items.size() && at->path != path) ++at;
  return at != items.data() + items.size() ? at : nullptr;
}

/// The terms of every set at `path`. Throws `error{bad_argument}` where sets disagree on what the module is.
[[nodiscard]] inline std::vector<CombineTerm> terms_at(std::span<const WeightedSet> sets,
                                                       const LoraModule& like) {
  std::vector<CombineTerm> out;
  for (const WeightedSet& weighted : sets) {
    const LoraModule* const module = find_path(weighted.set->modules, like.path);
    if (module == nullptr) continue;
    if (module->target != like.target || module->kernel != like.kernel)
      throw error(ErrorCode::bad_argument,
                  concat("combine: ", like.path, ": expected one kind of module in every adapter, got two"),
                  {.layer = like.path});
    out.push_back({.pair = &module->pair, .weight = weighted.weight});
  }
  return out;
}

/// Small tensors: the weighted sum.
inline void combine_diffs(std::span<const WeightedSet> sets, LoraSet& out) {
  for (const WeightedSet& weighted : sets)
    for (const DiffTensor& diff : weighted.set->diffs) {
      DiffTensor* at = find_path(out.diffs, diff.path);
      if (at == nullptr) {
        const std::span<const std::int64_t> shape = diff.values.shape();
        out.diffs.push_back({diff.path, Tensor(std::vector<std::int64_t>(shape.begin(), shape.end()))});
        at = &out.diffs.back();
      }
      if (at->values.size() != diff.values.size())
        throw shape_error(ErrorCode::wrong_shape,
                          concat("combine: ", diff.path, ": expected ", shape_text(at->values.shape()),
                                 " in every adapter, got ", shape_text(diff.values.shape())),
                          {.layer = diff.path});
      for (std::size_t i = 0; i < at->values.values().size(); ++i)
        at->values.values()[i] +=
            static_cast<float>(weighted.weight * static_cast<double>(diff.values.values()[i]));
    }
}

/// One adapter of several. Throws what `combine` throws, with the module's path before it.
[[nodiscard]] TENON_INLINE CombinedSet combine_sets(std::span<const WeightedSet> sets,
                                                    const CombineOptions& options);

#if TENON_HAS_MAKING_BODIES
TENON_INLINE CombinedSet combine_sets(std::span<const WeightedSet> sets, const CombineOptions& options) {
  CombinedSet out;
  if (sets.empty()) throw error(ErrorCode::bad_argument, "combine: expected at least one adapter, got none");
  out.set.component = sets[0].set->component;
  CombineOptions at_module = options;
  if (sets.size() == 1 && options.method != CombineMethod::svd) at_module.method = CombineMethod::linear;
  for (const WeightedSet& weighted : sets)
    for (const LoraModule& module : weighted.set->modules) {
      if (find_path(out.set.modules, module.path) != nullptr) continue;
      at_module.seed = mix_seed(options.seed, name_seed(module.path), 0);
      at_module.sign_side = module.target == LoraTarget::embedding ? SignSide::b : SignSide::a;
      try {
        MadeLora made = combine(terms_at(sets, module), at_module);
        out.modules.push_back({module.path, made.kept, made.error});
        out.set.modules.push_back({module.path, module.target, module.kernel, std::move(made.pair)});
      } catch (const shape_error& problem) {
        throw shape_error(problem.code(), concat(module.path, ": ", problem.what()), {.layer = module.path});
      }
    }
  combine_diffs(sets, out.set);
  return out;
}
#endif

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// The names under which adapters may speak of a model's modules: its own, those of the other naming of the
// same architecture (name_rules.hpp), and all of these with dots written as underscores. A file's name is
// looked up here, whole; nothing is guessed from parts of names, and a flattened name that two modules share
// is ambiguous and matches neither. Cost: to make, some microseconds a module; a look-up, one hash.
#pragma once

#include <tenon/core/nearest.hpp>
#include <tenon/formats/name_rules.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tenon {

/// A module of the model that a name speaks of, and how.
struct NamedModule {
  std::int32_t module = 0; ///< its index in the list that the table was made from
  NameShare share = NameShare::whole;
  bool is_fused = false;
  std::int32_t part = 0;
  std::int32_t parts = 1;
  bool is_own_name = false; ///< the model's, which goes before what a rule makes of another
};

class NameTable {
 public:
  /// `names`: the model's modules, by their paths; kept as they are given.
  explicit NameTable(std::vector<std::string> names) : names_(std::move(names)) {
    const auto count = static_cast<std::int32_t>(names_.size());
    for (std::int32_t i = 0; i < count; ++i) dotted_[name_of(i)] = {{.module = i, .is_own_name = true}};
    for (std::int32_t i = 0; i < count; ++i)
      visit_other_names(name_of(i), [&](const OtherName& other) {
        enter(other.name, {i, other.share, other.is_fused, other.part, other.parts});
      });
  }

  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }

  /// What a dotted name speaks of: one module, or the parts of a fused one in order; empty if nothing.
  [[nodiscard]] std::span<const NamedModule> find(std::string_view name) const { return in(dotted_, name); }

  /// The same for a name with underscores. `is_ambiguous`: two modules have this name.
  struct Flat {
    std::span<const NamedModule> modules{};
    bool is_ambiguous = false;
  };
  [[nodiscard]] Flat find_flattened(std::string_view name) {
    make_flattened();
    const auto at = flattened_.find(std::string(name));
    if (at == flattened_.end()) return {};
    if (at->second.empty()) return {.is_ambiguous = true};
    return {.modules = in(dotted_, at->second)};
  }

  /// The model's name nearest to one that was not found; empty if none is near.
  [[nodiscard]] std::string_view nearest(std::string_view name, bool is_flattened) const {
    if (!is_flattened) return nearest_name(name, names_);
    std::vector<std::string> flat;
    flat.reserve(names_.size());
    for (const std::string& own : names_) flat.push_back(flatten(own));
    const std::string_view best = nearest_name(name, flat);
    for (std::size_t i = 0; i < flat.size(); ++i)
      if (!best.empty() && flat[i] == best) return names_[i];
    return {};
  }

  [[nodiscard]] static std::string flatten(std::string_view name) {
    std::string out(name);
    for (char& c : out)
      if (c == '.') c = '_';
    return out;
  }

 private:
  using Modules = std::unordered_map<std::string, std::vector<NamedModule>>;

  [[nodiscard]] const std::string& name_of(std::int32_t module) const noexcept {
    return names_[static_cast<std::size_t>(module)];
  }
  /// Parts of one fused module stand together; of whole modules the first has the name.
  void enter(const std::string& name, const NamedModule& module) {
    std::vector<NamedModule>& all = dotted_[name];
    if (!all.empty() && all.front().parts != module.parts && all.front().parts == 1) return;
    if (!all.empty() && module.parts == 1) return;
    all.push_back(module);
  }
  [[nodiscard]] static std::span<const NamedModule> in(const Modules& modules, std::string_view name) {
    const auto at = modules.find(std::string(name));
    return at == modules.end() ? std::span<const NamedModule>{} : std::span<const NamedModule>(at->second);
  }
  /// Flattened names to dotted ones; an empty one where two differ. Made when a file first asks.
  void make_flattened() {
    if (!flattened_.empty()) return;
    for (const auto& [name, modules] : dotted_) {
      const auto [at, is_new] = flattened_.emplace(flatten(name), name);
      if (is_new || at->second.empty()) continue;
      const NamedModule& before = in(dotted_, at->second).front();
      if (modules.front().is_own_name == before.is_own_name) {
        if (modules.front().module != before.module) at->second.clear();
      } else if (modules.front().is_own_name) {
        at->second = name;
      }
    }
  }

  std::vector<std::string> names_;
  Modules dotted_{};
  std::unordered_map<std::string, std::string> flattened_{};
};

} // namespace tenon

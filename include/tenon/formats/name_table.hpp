// SPDX-License-Identifier: Apache-2.0
// The names under which adapters may speak of a model's modules: its own, those of the other naming of the
// same architecture (name_rules.hpp), and all of these with dots written as underscores. A file's name is
// looked up here, whole; nothing is guessed from parts of names, and a flattened name that two modules share
// is ambiguous and matches neither. Cost: to make, some microseconds a module; a look-up, one hash.
#pragma once

#include <tenon/core/nearest.hpp>
#include <tenon/core/sort_by.hpp>
#include <tenon/formats/name_rules.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
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
    std::vector<Entry> all;
    const auto count = static_cast<std::int32_t>(names_.size());
    for (std::int32_t i = 0; i < count; ++i) {
      const std::string& own = names_[static_cast<std::size_t>(i)];
      all.push_back({own, {.module = i, .is_own_name = true}});
      visit_other_names(own, [&](const OtherName& other) {
        all.push_back({other.name, {i, other.share, other.is_fused, other.part, other.parts}});
      });
    }
    sort_by(all, [](const Entry& a, const Entry& b) {
      if (a.name != b.name) return a.name < b.name;
      if (a.module.is_own_name != b.module.is_own_name) return a.module.is_own_name;
      if (a.module.parts != b.module.parts) return a.module.parts < b.module.parts;
      return a.module.module != b.module.module ? a.module.module < b.module.module
                                                : a.module.part < b.module.part;
    });
    // a model's own name goes before what a rule makes of another, one whole module before parts of one
    for (std::size_t i = 0; i < all.size();) {
      const std::size_t first = i;
      for (; i < all.size() && all[i].name == all[first].name; ++i)
        if (i == first || (all[first].module.parts > 1 && all[i].module.parts == all[first].module.parts)) {
          keys_.push_back(all[i].name);
          modules_.push_back(all[i].module);
        }
    }
  }

  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }

  /// What a dotted name speaks of: one module, or the parts of a fused one in order; empty if nothing.
  [[nodiscard]] std::span<const NamedModule> find(std::string_view name) const {
    const std::size_t first = lower_bound(keys_, name);
    std::size_t end = first;
    while (end < keys_.size() && keys_[end] == name) ++end;
    return std::span(modules_).subspan(first, end - first);
  }

  /// The same for a name with underscores. `is_ambiguous`: two modules have this name.
  struct Flat {
    std::span<const NamedModule> modules{};
    bool is_ambiguous = false;
  };
  [[nodiscard]] Flat find_flattened(std::string_view name) {
    make_flattened();
    const std::size_t at = lower_bound(flat_keys_, name);
    if (at == flat_keys_.size() || flat_keys_[at] != name) return {};
    if (flat_to_[at].empty()) return {.is_ambiguous = true};
    return {.modules = find(flat_to_[at])};
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
  struct Entry {
    std::string name{};
    NamedModule module{};
  };
  struct FlatEntry {
    std::string name{};
    std::string_view dotted{};
    bool is_own = false;
    std::int32_t module = 0;
  };

  [[nodiscard]] static std::size_t lower_bound(const std::vector<std::string>& keys,
                                               std::string_view key) noexcept {
    std::size_t first = 0;
    for (std::size_t count = keys.size(); count > 0;) {
      const std::size_t half = count / 2;
      if (keys[first + half] < key) {
        first += half + 1;
        count -= half + 1;
      } else {
        count = half;
      }
    }
    return first;
  }

  /// Flattened names to dotted ones; an empty one where two modules have it. Made when a file first asks.
  void make_flattened() {
    if (!flat_keys_.empty()) return;
    std::vector<FlatEntry> all;
    for (std::size_t i = 0; i < keys_.size(); ++i)
      if (i == 0 || keys_[i] != keys_[i - 1])
        all.push_back({flatten(keys_[i]), keys_[i], modules_[i].is_own_name, modules_[i].module});
    sort_by(all, [](const FlatEntry& a, const FlatEntry& b) {
      if (a.name != b.name) return a.name < b.name;
      return a.is_own != b.is_own ? a.is_own : a.dotted < b.dotted;
    });
    for (std::size_t i = 0; i < all.size();) {
      const FlatEntry& first = all[i];
      bool is_ambiguous = false;
      for (; i < all.size() && all[i].name == first.name; ++i)
        is_ambiguous = is_ambiguous || (all[i].is_own == first.is_own && all[i].module != first.module);
      flat_keys_.push_back(first.name);
      flat_to_.push_back(is_ambiguous ? std::string_view{} : first.dotted);
    }
  }

  std::vector<std::string> names_;
  std::vector<std::string> keys_{}; ///< sorted; parts of a fused module under one name
  std::vector<NamedModule> modules_{};
  std::vector<std::string> flat_keys_{};
  std::vector<std::string_view> flat_to_{}; ///< into keys_
};

} // namespace tenon

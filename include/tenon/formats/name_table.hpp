// SPDX-License-Identifier: Apache-2.0
// The names under which adapters may speak of a model's modules: its own, those of the other naming of the
// same architecture (name_rules.hpp), and all of these with dots written as underscores. A file's name is
// looked up here, whole; nothing is guessed from parts of names, and a flattened name that two modules share
// is ambiguous and matches neither. Cost: names are sorted once and looked up by halving; the other naming,
// and flattened names, are made when a file first asks for one.
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

/// What of a module a name stands for where the net says so itself (graph/slices.hpp).
struct DeclaredSlice {
  std::int64_t first = 0; ///< row or column of the larger one
  std::int64_t size = 0;  ///< 0: nothing is declared
  std::int64_t total = 0;
};

/// A module of the model that a name speaks of, and how.
struct NamedModule {
  std::int32_t module = 0; ///< its index in the list that the table was made from
  NameShare share = NameShare::whole;
  bool is_fused = false;
  std::int32_t part = 0;
  std::int32_t parts = 1;
  DeclaredSlice slice{};
};

/// Names and the modules that they speak of: one, or the parts of a fused one in order.
class NameList {
 public:
  struct Entry {
    std::string name{};
    NamedModule module{};
  };
  struct Flat {
    std::span<const NamedModule> modules{};
    bool is_ambiguous = false; ///< two modules have this name
  };

  NameList() = default;
  /// Of several modules under one name the first whole one has it; else all parts of one fused module do.
  explicit NameList(std::vector<Entry> all) {
    sort_by(all, [](const Entry& a, const Entry& b) {
      if (a.name != b.name) return a.name < b.name;
      if (a.module.parts != b.module.parts) return a.module.parts < b.module.parts;
      return a.module.module != b.module.module ? a.module.module < b.module.module
                                                : a.module.part < b.module.part;
    });
    for (std::size_t i = 0; i < all.size();) {
      const std::size_t first = i;
      for (; i < all.size() && all[i].name == all[first].name; ++i)
        if (i == first || (all[first].module.parts > 1 && all[i].module.parts == all[first].module.parts)) {
          keys_.push_back(all[i].name);
          modules_.push_back(all[i].module);
        }
    }
  }

  /// Empty if nothing has this name.
  [[nodiscard]] std::span<const NamedModule> find(std::string_view name) const noexcept {
    const std::size_t first = lower_bound(keys_, name);
    std::size_t end = first;
    while (end < keys_.size() && keys_[end] == name) ++end;
    return std::span(modules_).subspan(first, end - first);
  }
  /// The same for a name with underscores for dots.
  [[nodiscard]] Flat find_flattened(std::string_view name) {
    make_flattened();
    const std::size_t at = lower_bound(flat_keys_, name);
    if (at == flat_keys_.size() || flat_keys_[at] != name) return {};
    if (flat_to_[at] == ambiguous) return {.is_ambiguous = true};
    return {.modules = find(keys_[flat_to_[at]])};
  }

  [[nodiscard]] static std::string flatten(std::string_view name) {
    std::string out(name);
    for (char& c : out)
      if (c == '.') c = '_';
    return out;
  }

 private:
  struct FlatEntry {
    std::string name{};
    std::size_t key = 0;
  };
  static constexpr std::size_t ambiguous = static_cast<std::size_t>(-1); ///< two modules have the name

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

  /// Flattened names to dotted ones. Made when a file first asks.
  void make_flattened() {
    if (!flat_keys_.empty()) return;
    std::vector<FlatEntry> all;
    for (std::size_t i = 0; i < keys_.size(); ++i)
      if (i == 0 || keys_[i] != keys_[i - 1]) all.push_back({flatten(keys_[i]), i});
    sort_by(all, [](const FlatEntry& a, const FlatEntry& b) {
      return a.name != b.name ? a.name < b.name : a.key < b.key;
    });
    for (std::size_t i = 0; i < all.size();) {
      const FlatEntry& first = all[i];
      bool is_ambiguous = false;
      for (; i < all.size() && all[i].name == first.name; ++i)
        is_ambiguous = is_ambiguous || modules_[all[i].key].module != modules_[first.key].module;
      flat_keys_.push_back(first.name);
      flat_to_.push_back(is_ambiguous ? ambiguous : first.key);
    }
  }

  std::vector<std::string> keys_{}; ///< sorted
  std::vector<NamedModule> modules_{};
  std::vector<std::string> flat_keys_{};
  std::vector<std::size_t> flat_to_{}; ///< index in keys_, or ambiguous
};

/// The names of a model's modules, and those that the other naming has for them.
class NameTable {
 public:
  /// `names`: the model's modules, by their paths; kept as they are given. `declared`: other names that the net has for
  /// some of them.
  explicit NameTable(std::vector<std::string> names, std::vector<NameList::Entry> declared = {})
      : names_(std::move(names)), declared_(std::move(declared)) {
    std::vector<NameList::Entry> own;
    for (std::size_t i = 0; i < names_.size(); ++i)
      own.push_back({names_[i], {.module = static_cast<std::int32_t>(i)}});
    own_ = NameList(std::move(own));
  }

  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }

  /// What a dotted name speaks of; empty if nothing. The model's own names go before what rules make of others.
  [[nodiscard]] std::span<const NamedModule> find(std::string_view name) {
    const std::span<const NamedModule> found = own_.find(name);
    return found.empty() ? others().find(name) : found;
  }
  /// The same for a name with underscores.
  [[nodiscard]] NameList::Flat find_flattened(std::string_view name) {
    const NameList::Flat found = own_.find_flattened(name);
    return found.modules.empty() && !found.is_ambiguous ? others().find_flattened(name) : found;
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

  [[nodiscard]] static std::string flatten(std::string_view name) { return NameList::flatten(name); }

 private:
  /// Made when a name is first not the model's own: most files need none of it.
  [[nodiscard]] NameList& others() {
    if (has_others_) return others_;
    std::vector<NameList::Entry> all = std::move(declared_);
    for (std::size_t i = 0; i < names_.size(); ++i)
      visit_other_names(names_[i], [&](const OtherName& other) {
        all.push_back(
            {other.name,
             {static_cast<std::int32_t>(i), other.share, other.is_fused, other.part, other.parts, {}}});
      });
    others_ = NameList(std::move(all));
    has_others_ = true;
    return others_;
  }

  std::vector<std::string> names_;
  std::vector<NameList::Entry> declared_; ///< until others_ has them
  NameList own_{};
  NameList others_{};
  bool has_others_ = false;
};

} // namespace tenon

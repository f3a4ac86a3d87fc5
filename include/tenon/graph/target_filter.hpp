// SPDX-License-Identifier: Apache-2.0
// Which slots of a part of a net are open, by patterns of their paths; see targets.hpp.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace tenon {

/// Whether `pattern` is `path`, or its end after a dot. A `*` of the pattern stands for one element.
[[nodiscard]] constexpr bool fits_target(std::string_view path, std::string_view pattern) noexcept {
  while (!pattern.empty()) { // from the last element on
    const std::size_t pattern_dot = pattern.rfind('.');
    const std::size_t path_dot = path.rfind('.');
    const std::string_view wanted = pattern.substr(pattern_dot + 1); // npos + 1 is 0
    if (path.empty() || (wanted != "*" && wanted != path.substr(path_dot + 1))) return false;
    pattern = pattern_dot == std::string_view::npos ? std::string_view{} : pattern.substr(0, pattern_dot);
    path = path_dot == std::string_view::npos ? std::string_view{} : path.substr(0, path_dot);
  }
  return true;
}

struct TargetFilter {
  std::span<const std::string_view> wanted{};
  std::span<const std::string_view> unwanted{};
  std::span<bool> used{};        ///< by pattern, wanted ones first: whether it fitted a slot
  std::size_t begin = 0;         ///< of the paths that it looks at: what stands before belongs to others
  TargetFilter* outer = nullptr; ///< that the slot must pass too

  [[nodiscard]] constexpr bool lets_through(std::string_view path) {
    const auto fits_one = [&](std::span<const std::string_view> patterns, std::size_t first_used) {
      bool fits = false;
      for (std::size_t i = 0; i < patterns.size(); ++i)
        if (fits_target(path, patterns[i])) fits = used[first_used + i] = true;
      return fits;
    };
    const bool is_wanted = fits_one(wanted, 0);
    return is_wanted && !fits_one(unwanted, wanted.size());
  }
};

} // namespace tenon

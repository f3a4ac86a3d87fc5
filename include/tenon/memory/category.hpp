// SPDX-License-Identifier: Apache-2.0
// The six things that bytes are held for, and a number of bytes for each: how the ledger accounts and how an operation
// states what it will take.
#pragma once

#include <tenon/core/text.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tenon {

/// What bytes are held for.
enum class Category : std::uint8_t {
  base_mapped, ///< a checkpoint's file mapping: pages of the system's cache, given up under pressure
  base_owned,  ///< base weights that had to be copied or converted
  adapter,     ///< an adapter's file mapping and what was prepared from it
  overlay,     ///< base + delta, written out of place by a merged attach
  workspace,   ///< the activation buffers of sessions
  scratch,     ///< tiles that kernels decode and pack into
};

inline constexpr std::size_t category_count = 6;

[[nodiscard]] constexpr std::string_view category_name(Category category) noexcept {
  constexpr std::string_view names[] = {"base (mapped)", "base (owned)", "adapter",
                                        "overlay",       "workspace",    "scratch"};
  return names[static_cast<std::size_t>(category)];
}

/// One number of bytes for each category; what an operation will take is stated this way before it begins.
struct BytesByCategory {
  std::array<std::int64_t, category_count> bytes{};

  [[nodiscard]] constexpr std::int64_t& operator[](Category c) noexcept {
    return bytes[static_cast<std::size_t>(c)];
  }
  [[nodiscard]] constexpr std::int64_t operator[](Category c) const noexcept {
    return bytes[static_cast<std::size_t>(c)];
  }
  [[nodiscard]] constexpr std::int64_t total() const noexcept {
    std::int64_t sum = 0;
    for (const std::int64_t b : bytes) sum += b;
    return sum;
  }
  /// What a budget speaks about: all but `base_mapped`, whose pages the system takes back when it needs them.
  [[nodiscard]] constexpr std::int64_t budgeted() const noexcept {
    return total() - (*this)[Category::base_mapped];
  }

  friend constexpr bool operator==(const BytesByCategory&, const BytesByCategory&) = default;
};

/// "12.0 MiB (adapter 2.0 MiB, overlay 10.0 MiB)": what a budget speaks about, by the categories that are not
/// empty. Mapped base weights are no part of it.
[[nodiscard]] inline std::string held_text(const BytesByCategory& held) {
  std::string parts;
  for (std::size_t i = 0; i < category_count; ++i) {
    if (held.bytes[i] == 0 || static_cast<Category>(i) == Category::base_mapped) continue;
    if (!parts.empty()) parts += ", ";
    parts += concat(category_name(static_cast<Category>(i)), " ", bytes_text(held.bytes[i]));
  }
  return concat(bytes_text(held.budgeted()), parts.empty() ? "" : concat(" (", parts, ")"));
}

} // namespace tenon

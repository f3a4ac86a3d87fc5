// SPDX-License-Identifier: Apache-2.0
// A string that can be a template argument: the name of a layer, a wire, a scope.
// Cost: its characters, at compile time only. The array member is public because a structural type must have
// no private parts; nvcc 13 cannot deduce such an argument, so nothing in Tenon specialises on one.
#pragma once

#include <cstddef>
#include <string_view>

namespace tenon {

/// A compile-time string of `N - 1` characters, deduced from a literal: `Linear<"query", 384, 384>`.
template <std::size_t N>
struct fixed_string {
  char text[N]{};

  // NOLINTNEXTLINE(google-explicit-constructor): a literal must convert silently to be a template argument
  constexpr fixed_string(const char (&literal)[N]) noexcept {
    for (std::size_t i = 0; i < N; ++i) text[i] = literal[i];
  }

  [[nodiscard]] static constexpr std::size_t size() noexcept { return N - 1; }
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {text, N - 1}; }

  template <std::size_t M>
  [[nodiscard]] friend constexpr bool operator==(const fixed_string& a, const fixed_string<M>& b) noexcept {
    return a.view() == b.view();
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Sets of byte values, as the classes and escapes of a regular expression name them.
#pragma once

#include <bitset>
#include <optional>
#include <string_view>

namespace tenon {

using CharacterSet = std::bitset<256>;

inline void set_range(CharacterSet& set, unsigned first, unsigned last) {
  for (unsigned c = first; c <= last; ++c) set.set(c);
}

/// What `\c` stands for in Python's `re`: digits, word characters, spaces, their opposites, or a punctuation character
/// itself; nothing for another letter or a digit (a back-reference, an assertion).
[[nodiscard]] inline std::optional<CharacterSet> escaped_set(char c) {
  CharacterSet set;
  switch (c) {
  case 'd':
  case 'D':
    set_range(set, '0', '9');
    break;
  case 'w':
  case 'W':
    set_range(set, '0', '9');
    set_range(set, 'a', 'z');
    set_range(set, 'A', 'Z');
    set.set('_');
    break;
  case 's':
  case 'S':
    for (const char space : std::string_view(" \t\n\r\f\v")) set.set(static_cast<unsigned char>(space));
    break;
  default:
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return std::nullopt;
    set.set(static_cast<unsigned char>(c));
    return set;
  }
  return c == 'D' || c == 'W' || c == 'S' ? ~set : set;
}

} // namespace tenon

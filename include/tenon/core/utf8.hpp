// SPDX-License-Identifier: Apache-2.0
// UTF-8: is a text well formed, and the bytes of one code point. The table is the one of the Unicode
// Standard, 3-7: no character spelled longer than it must be, no surrogates, nothing beyond U+10FFFF.
// Cost: one pass, no allocation but the caller's string. Threads: no shared state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tenon {

/// Bytes in the well-formed UTF-8 character that `text` begins with, 0 if it does not begin with one.
[[nodiscard]] constexpr std::size_t utf8_length(std::string_view text) noexcept {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto inside = [&](std::size_t i, unsigned low, unsigned high) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  if (text.empty()) return 0;
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  if (first < 0xE0) return inside(1, 0x80, 0xBF) ? 2 : 0;
  const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;  // nothing spelled too long
  const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF; // no surrogate, no 0x110000
  if (!inside(1, low, high) || !inside(2, 0x80, 0xBF)) return 0;
  if (first < 0xF0) return 3;
  return inside(3, 0x80, 0xBF) ? 4 : 0;
}

[[nodiscard]] constexpr bool is_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

/// Appends the character U+`code`. Precondition: at most 0x10FFFF and not a surrogate.
inline void append_utf8(std::string& out, std::uint32_t code) {
  const auto tail = [&](unsigned shift) { out += static_cast<char>(0x80U | ((code >> shift) & 0x3FU)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0U | (code >> 6U));
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0U | (code >> 12U));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0U | (code >> 18U));
    tail(12);
    tail(6);
    tail(0);
  }
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Building a message from its parts without <format> (absent from libstdc++ 12) or a stream (0.27 s to
// include).
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace tenon {

inline void append_text(std::string& out, std::string_view part) { out += part; }

template <std::integral T>
  requires(!std::same_as<T, char> && !std::same_as<T, bool>)
void append_text(std::string& out, T number) {
  out += std::to_string(number);
}

/// The parts one after the other: `concat("expected ", 8, " rows")`. Integers are written in decimal.
template <class... Parts>
[[nodiscard]] std::string concat(const Parts&... parts) {
  std::string out;
  (append_text(out, parts), ...);
  return out;
}

/// "1.5 KiB", "350.0 MiB": a byte count for people, one decimal, rounded down. Any value, a damaged file's
/// too.
[[nodiscard]] inline std::string bytes_text(std::int64_t bytes) {
  constexpr const char* unit[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes > -1024 && bytes < 1024) return concat(bytes, " B");
  std::int64_t whole = bytes / 1024;
  std::int64_t rest = bytes % 1024; // of the last unit divided, same sign as whole
  int step = 0;
  for (; step < 3 && (whole >= 1024 || whole <= -1024); ++step) {
    rest = whole % 1024;
    whole /= 1024;
  }
  return concat(bytes < 0 ? "-" : "", whole < 0 ? -whole : whole, ".", (rest < 0 ? -rest : rest) * 10 / 1024,
                " ", unit[step]);
}

} // namespace tenon

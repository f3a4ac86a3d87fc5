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
template <class... Parts> [[nodiscard]] std::string concat(const Parts&... parts) {
  std::string out;
  (append_text(out, parts), ...);
  return out;
}

/// "1.5 KiB", "350.0 MiB": a byte count for people, one decimal, rounded down.
[[nodiscard]] inline std::string bytes_text(std::int64_t bytes) {
  constexpr const char* unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::int64_t tenths = bytes * 10;
  int step = 0;
  while (step < 4 && (tenths >= 10240 || tenths <= -10240)) {
    tenths /= 1024;
    ++step;
  }
  if (step == 0) return concat(bytes, " B");
  return concat(tenths / 10, ".", (tenths < 0 ? -tenths : tenths) % 10, " ", unit[step]);
}

} // namespace tenon

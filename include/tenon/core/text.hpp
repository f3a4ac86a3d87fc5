// SPDX-License-Identifier: Apache-2.0
// Building a message from its parts without <format> (absent from libstdc++ 12) or a stream
// (whose header costs more to include than this whole floor).
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace tenon {

/// A piece of a message: text, or an integer written in decimal. Lives for one call of `concat`.
class TextPart {
 public:
  TextPart() = default;
  // NOLINTBEGIN(google-explicit-constructor): parts are given as they are
  TextPart(std::string_view text) noexcept : text_(text) {}
  TextPart(const char* text) noexcept : text_(text) {}
  TextPart(const std::string& text) noexcept : text_(text) {}
  template <std::integral T>
    requires(!std::same_as<T, char> && !std::same_as<T, bool>)
  TextPart(T number) noexcept {
    if constexpr (std::signed_integral<T>) // nvcc warns where an unsigned number is compared with 0
      write(number < 0,
            number < 0 ? 0 - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number));
    else
      write(false, number);
  }
  // NOLINTEND(google-explicit-constructor)
  TextPart(const TextPart&) = delete;
  TextPart& operator=(const TextPart&) = delete;

  [[nodiscard]] std::string_view text() const noexcept { return text_; }

 private:
  void write(bool is_negative, std::uint64_t size) noexcept {
    char* at = digits_ + sizeof digits_;
    do {
      *--at = static_cast<char>('0' + size % 10);
      size /= 10;
    } while (size != 0);
    if (is_negative) *--at = '-';
    text_ = {at, static_cast<std::size_t>(digits_ + sizeof digits_ - at)};
  }

  char digits_[20];
  std::string_view text_{};
};

/// The parts one after the other: `concat("expected ", 8, " rows")`. Not a template over its arguments: with a new
/// signature for every message, each would cost every translation unit an instantiation.
[[nodiscard]] inline std::string
concat(const TextPart& p0 = {}, const TextPart& p1 = {}, const TextPart& p2 = {}, const TextPart& p3 = {},
       const TextPart& p4 = {}, const TextPart& p5 = {}, const TextPart& p6 = {}, const TextPart& p7 = {},
       const TextPart& p8 = {}, const TextPart& p9 = {}, const TextPart& p10 = {}, const TextPart& p11 = {},
       const TextPart& p12 = {}, const TextPart& p13 = {}, const TextPart& p14 = {}, const TextPart& p15 = {},
       const TextPart& p16 = {}, const TextPart& p17 = {}) {
  std::string out;
  for (const TextPart* part :
       {&p0, &p1, &p2, &p3, &p4, &p5, &p6, &p7, &p8, &p9, &p10, &p11, &p12, &p13, &p14, &p15, &p16, &p17})
    out += part->text();
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

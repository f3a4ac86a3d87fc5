// SPDX-License-Identifier: Apache-2.0
// Draws 8x8 digits side by side: in the terminal with half blocks (two pixels a character), and as a grey PNG with
// predictions under them.
#pragma once

#include <png.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace digits {

inline constexpr std::size_t side = 8;

/// Pixels 0 ... 16, one byte each, row by row.
using Image = std::span<const std::uint8_t, side * side>;

/// Four lines of text; each character is an upper and a lower pixel.
inline std::string draw_row(std::span<const Image> images) {
  // 0 empty, 1 lower half, 2 upper half, 3 full: a pixel counts as set from 6 of 16 on
  constexpr std::array<std::string_view, 4> block{" ", "\u2584", "\u2580", "\u2588"};
  std::string out;
  for (std::size_t y = 0; y < side; y += 2) {
    out += "  ";
    for (const Image image : images) {
      for (std::size_t x = 0; x < side; ++x) {
        const std::size_t upper = image[y * side + x] >= 6 ? 2 : 0;
        const std::size_t lower = image[(y + 1) * side + x] >= 6 ? 1 : 0;
        out += block[upper + lower];
      }
      out += "    ";
    }
    out += '\n';
  }
  return out;
}

/// A grey picture that things are drawn into, then written as a PNG.
class Picture {
 public:
  static constexpr std::size_t scale = 10;
  static constexpr std::size_t cell = (side + 2) * scale; ///< pixels from one digit to the next

  Picture(std::size_t width, std::size_t height)
      : width_(width), height_(height), grey_(width * height, 255) {}

  void draw(Image image, std::size_t left, std::size_t top) {
    for (std::size_t y = 0; y < side * scale; ++y)
      for (std::size_t x = 0; x < side * scale; ++x) {
        const std::uint8_t ink = image[y / scale * side + x / scale];
        grey_[(top + y) * width_ + left + x] = static_cast<std::uint8_t>(255 - ink * 255 / 16);
      }
  }
  /// A prediction, 12 pixels wide and 20 high.
  void write(std::size_t digit, std::size_t left, std::size_t top, std::uint8_t grey) {
    // 3 x 5 dots, one octal digit a row, the top row first
    constexpr std::array<unsigned, 10> dots{075557, 026227, 071747, 071717, 055711,
                                            074717, 074757, 071122, 075757, 075717};
    constexpr std::size_t dot = 4;
    for (std::size_t y = 0; y < 5 * dot; ++y)
      for (std::size_t x = 0; x < 3 * dot; ++x)
        if ((dots[digit] >> ((4 - y / dot) * 3 + (2 - x / dot)) & 1U) != 0)
          grey_[(top + y) * width_ + left + x] = grey;
  }
  /// Returns libpng's message, or "".
  [[nodiscard]] std::string save(const std::string& path) const {
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    image.width = static_cast<png_uint_32>(width_);
    image.height = static_cast<png_uint_32>(height_);
    image.format = PNG_FORMAT_GRAY;
    png_image_write_to_file(&image, path.c_str(), 0, grey_.data(), 0, nullptr);
    return static_cast<const char*>(image.message);
  }

 private:
  std::size_t width_;
  std::size_t height_;
  std::vector<std::uint8_t> grey_;
};

} // namespace digits

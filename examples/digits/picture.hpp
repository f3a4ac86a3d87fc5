// SPDX-License-Identifier: Apache-2.0
// Draws 8x8 digits side by side: in the terminal with half blocks (two pixels a character), and as a grey PNG.
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

/// A grey PNG with the rows of images one under the other, each pixel `scale` wide. Returns libpng's message, or "".
inline std::string write_png(const std::string& path, std::span<const std::vector<Image>> rows) {
  constexpr std::size_t scale = 10;
  constexpr std::size_t cell = (side + 2) * scale;
  const std::size_t columns = rows.empty() ? 0 : rows.front().size();
  const std::size_t width = columns * cell;
  std::vector<std::uint8_t> grey(width * rows.size() * cell, 255);
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t c = 0; c < columns; ++c)
      for (std::size_t y = 0; y < side * scale; ++y)
        for (std::size_t x = 0; x < side * scale; ++x) {
          const std::uint8_t ink = rows[r][c][y / scale * side + x / scale];
          grey[(r * cell + scale + y) * width + c * cell + scale + x] =
              static_cast<std::uint8_t>(255 - ink * 255 / 16);
        }
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width);
  image.height = static_cast<png_uint_32>(rows.size() * cell);
  image.format = PNG_FORMAT_GRAY;
  png_image_write_to_file(&image, path.c_str(), 0, grey.data(), 0, nullptr);
  return static_cast<const char*>(image.message);
}

} // namespace digits

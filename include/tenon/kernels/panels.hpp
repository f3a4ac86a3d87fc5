// SPDX-License-Identifier: Apache-2.0
// Making the panels that products read, by turning matrices round. A panel slice is `width` columns
// of the right operand, stored row by row; columns past the last are zeros, so that the inner loops need no
// remainder. Cost: one read and one write of each element, in blocks of 4 by 4. Any thread.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/vector_kernels.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace tenon::kernels {

/// Floats of the panels of a [depth, cols] operand: for `width`, or an upper bound for every instruction set.
[[nodiscard]] constexpr std::int64_t panel_floats(std::int64_t depth, std::int64_t cols,
                                                  std::int64_t width = max_panel_width) noexcept {
  return depth * ((cols + width - 1) / width * width);
}

/// Four rows of four floats, turned round in registers.
struct FourByFour {
  using Row = float __attribute__((vector_size(16)));
  std::array<Row, 4> rows;

  [[nodiscard]] static FourByFour load(const float* from, std::int64_t stride) noexcept {
    FourByFour block;
    for (std::int64_t i = 0; i < 4; ++i)
      std::memcpy(&block.rows[static_cast<std::size_t>(i)], from + i * stride, sizeof(Row));
    return block;
  }
  [[nodiscard]] FourByFour transposed() const noexcept {
    const Row low01 = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5);
    const Row high01 = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
    const Row low23 = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
    const Row high23 = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
    return {{__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
             __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
             __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
             __builtin_shufflevector(high01, high23, 2, 3, 6, 7)}};
  }
  void store(float* to, std::int64_t stride) const noexcept {
    for (std::int64_t i = 0; i < 4; ++i)
      std::memcpy(to + i * stride, &rows[static_cast<std::size_t>(i)], sizeof(Row));
  }
};

// These two are called, not inlined: each product would compile them again.
/// to [cols, rows] = from [rows, cols] transposed; `to` has the row stride `stride`.
__attribute__((noinline)) inline void transpose(ConstMatrix from, float* to, std::int64_t stride) noexcept {
  std::int64_t i = 0;
  for (; i + 4 <= from.rows; i += 4) {
    std::int64_t j = 0;
    for (; j + 4 <= from.cols; j += 4)
      FourByFour::load(from.row(i) + j, from.stride).transposed().store(to + j * stride + i, stride);
    for (; j < from.cols; ++j)
      for (std::int64_t r = i; r < i + 4; ++r) to[j * stride + r] = from.row(r)[j];
  }
  for (; i < from.rows; ++i)
    for (std::int64_t j = 0; j < from.cols; ++j) to[j * stride + i] = from.row(i)[j];
}

/// Begins to bring a block into the cache that will be added to. Inlined, since g++ takes a call for one that does nothing.
__attribute__((always_inline)) inline void fetch(Matrix block) noexcept {
  constexpr std::int64_t line = 64 / sizeof(float);
  for (std::int64_t i = 0; i < block.rows; ++i)
    for (std::int64_t j = 0; j < block.cols; j += line) __builtin_prefetch(block.row(i) + j, 1);
}

/// Panels of x^T, for x [rows, depth]: a column of a panel is a row of x.
inline void make_transposed_panels(ConstMatrix x, std::int64_t width, float* panels) noexcept {
  for (std::int64_t i = 0; i < x.rows; i += width, panels += x.cols * width) {
    const std::int64_t count = std::min(width, x.rows - i);
    transpose(x.rows_from(i, count), panels, width);
    for (std::int64_t k = 0; count < width && k < x.cols; ++k)
      std::fill_n(panels + k * width + count, width - count, 0.0f);
  }
}

/// Row `k` of panels [depth, cols], from `cols` floats.
inline void set_panel_row(const float* from, std::int64_t cols, std::int64_t depth, std::int64_t k,
                          std::int64_t width, float* panels) noexcept {
  panels += k * width;
  for (std::int64_t j = 0; j < cols; j += width, panels += depth * width) {
    const std::int64_t count = std::min(width, cols - j);
    std::memcpy(panels, from + j, static_cast<std::size_t>(count) * sizeof(float));
    std::fill_n(panels + count, width - count, 0.0f);
  }
}

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// Rotary positions (Su et al., arXiv:2104.09864): each head's values, taken in pairs, are turned by an angle that grows
// with the token's place: pair i of width d by place * theta^(-2i / d). Images and videos turn parts of a head by frame,
// row and column. Angles in double, rounded once. Cost: one pass over x; cosines are computed once for each token. In
// place allowed.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/workers.hpp>

#include <array>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>

namespace tenon::kernels {

struct RotaryAngles {
  double theta = 10000;
  /// Llama 3.1's stretching of long waves (its config's rope_scaling of type llama3); factor 1: none.
  double factor = 1;
  double low_factor = 1;
  double high_factor = 4;
  double original_positions = 8192;

  /// Radians per token of pair `i` of a head of width `width`.
  [[nodiscard]] double frequency(std::int64_t i, std::int64_t width) const noexcept {
    const double plain = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(width));
    if (factor == 1) return plain;
    const double wave = 2 * std::numbers::pi / plain;
    if (wave < original_positions / high_factor) return plain;
    if (wave > original_positions / low_factor) return plain / factor;
    const double smooth = (original_positions / wave - low_factor) / (high_factor - low_factor);
    return (1 - smooth) * plain / factor + smooth * plain;
  }
};

/// How the pairs of a head lie: pair i is (i, i + width / 2), or (2 i, 2 i + 1).
enum class RotaryPairs : std::uint8_t { halves, neighbours };

/// Scratch of `rotate_heads`.
[[nodiscard]] constexpr std::int64_t rotary_scratch_bytes(std::int64_t head_width) noexcept {
  return scratch_sum({scratch_bytes<double>(head_width / 2), scratch_bytes<float>(head_width)});
}

/// y = x [rows, heads * width] turned: pair i of row r by `angle(r, i)` radians.
template <class AngleOf>
void rotate_heads(ConstMatrix x, std::int64_t width, RotaryPairs pairs, Matrix y, Workers workers,
                  AngleOf angle) {
  assert(x.rows == y.rows && x.cols == y.cols && width % 2 == 0 && x.cols % width == 0 &&
         "rotate_heads: heads of even width");
  const std::int64_t half = width / 2;
  const std::int64_t step = pairs == RotaryPairs::halves ? 1 : 2;
  const std::int64_t other = pairs == RotaryPairs::halves ? half : 1;
  workers.share(x.rows, 1, 20 * x.cols, [&](std::int64_t begin, std::int64_t count, Scratch scratch) {
    float* const cosine = scratch.take<float>(width).data();
    float* const sine = cosine + half;
    for (std::int64_t row = begin; row < begin + count; ++row) {
      for (std::int64_t i = 0; i < half; ++i) {
        const double turn = angle(row, i);
        cosine[i] = static_cast<float>(std::cos(turn));
        sine[i] = static_cast<float>(std::sin(turn));
      }
      for (std::int64_t head = 0; head < x.cols; head += width) {
        const float* const from = x.row(row) + head;
        float* const to = y.row(row) + head;
        for (std::int64_t i = 0; i < half; ++i) {
          const float a = from[i * step];
          const float b = from[i * step + other];
          to[i * step] = a * cosine[i] - b * sine[i];
          to[i * step + other] = b * cosine[i] + a * sine[i];
        }
      }
    }
  });
}

/// The same in sequences of `tokens`: token t of each at place `first + t`.
inline void rotate_sequences(ConstMatrix x, std::int64_t tokens, std::int64_t first, std::int64_t width,
                             const RotaryAngles& angles, RotaryPairs pairs, Matrix y, Workers workers) {
  const std::span<double> frequency = workers.take<double>(width / 2);
  for (std::int64_t i = 0; i < width / 2; ++i)
    frequency[static_cast<std::size_t>(i)] = angles.frequency(i, width);
  rotate_heads(x, width, pairs, y, workers, [&](std::int64_t row, std::int64_t i) {
    return static_cast<double>(first + row % tokens) * frequency[static_cast<std::size_t>(i)];
  });
}

/// The parts of a head that are turned by each of three places: a frame, row and column, or the three numbers of a
/// token's id. Their sum is the head's width.
struct RotaryAxes {
  std::array<std::int64_t, 3> widths{};
  double theta = 10000;
};

/// The same by three places for each row: `place(row, axis)`. Neighbours are pairs.
template <class PlaceOf>
void rotate_by_axes(ConstMatrix x, const RotaryAxes& axes, Matrix y, Workers workers, PlaceOf place) {
  const std::int64_t width = axes.widths[0] + axes.widths[1] + axes.widths[2];
  const std::span<double> frequency = workers.take<double>(width / 2);
  std::int64_t pair = 0;
  for (const std::int64_t part : axes.widths)
    for (std::int64_t i = 0; i < part / 2; ++i)
      frequency[static_cast<std::size_t>(pair++)] = RotaryAngles{.theta = axes.theta}.frequency(i, part);
  const std::int64_t second = axes.widths[0] / 2;
  const std::int64_t third = second + axes.widths[1] / 2;
  rotate_heads(x, width, RotaryPairs::neighbours, y, workers, [&](std::int64_t row, std::int64_t i) {
    return place(row, i < second ? 0 : i < third ? 1 : 2) * frequency[static_cast<std::size_t>(i)];
  });
}

} // namespace tenon::kernels

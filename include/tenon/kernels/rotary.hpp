// SPDX-License-Identifier: Apache-2.0
// Rotary positions (Su et al., arXiv:2104.09864): each head's values, taken in pairs, are turned by an angle that grows
// with the token's place: pair i of width d by place * theta^(-2i / d). In halves (i with i + d / 2, as Llama's
// checkpoints have them) or interleaved (2i with 2i + 1). Angles in double, rounded once. Cost: one pass over x; cosines
// are computed once for each token. In place allowed.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/workers.hpp>

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

/// Scratch of `rotate_heads`.
[[nodiscard]] constexpr std::int64_t rotary_scratch_bytes(std::int64_t head_width) noexcept {
  return scratch_sum({scratch_bytes<double>(head_width / 2), scratch_bytes<float>(head_width)});
}

/// y = x [sequences * tokens, heads * width] turned; the first token of each sequence has place `first`.
inline void rotate_heads(ConstMatrix x, std::int64_t tokens, std::int64_t first, std::int64_t width,
                         const RotaryAngles& angles, bool is_interleaved, Matrix y, Workers workers) {
  assert(x.rows == y.rows && x.cols == y.cols && width % 2 == 0 && x.cols % width == 0 &&
         "rotate_heads: heads of even width");
  const std::int64_t half = width / 2;
  const std::span<double> frequency = workers.take<double>(half);
  for (std::int64_t i = 0; i < half; ++i) frequency[static_cast<std::size_t>(i)] = angles.frequency(i, width);
  workers.share(x.rows, 1, 20 * x.cols, [&](std::int64_t begin, std::int64_t count, Scratch scratch) {
    const std::span<float> turn = scratch.take<float>(width); // cosines, then sines
    float* const cosine = turn.data();
    float* const sine = cosine + half;
    for (std::int64_t row = begin; row < begin + count; ++row) {
      const auto place = static_cast<double>(first + row % tokens);
      for (std::int64_t i = 0; i < half; ++i) {
        const double angle = place * frequency[static_cast<std::size_t>(i)];
        cosine[i] = static_cast<float>(std::cos(angle));
        sine[i] = static_cast<float>(std::sin(angle));
      }
      for (std::int64_t head = 0; head < x.cols; head += width) {
        const float* const from = x.row(row) + head;
        float* const to = y.row(row) + head;
        const std::int64_t step = is_interleaved ? 2 : 1;
        const std::int64_t other = is_interleaved ? 1 : half;
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

} // namespace tenon::kernels

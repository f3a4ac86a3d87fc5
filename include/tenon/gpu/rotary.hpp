// SPDX-License-Identifier: Apache-2.0
// Rotary positions on a device (kernels/rotary.hpp): Rotary, RotaryGrid, RotaryAt. Frequencies are the host's, in double;
// cosines and sines are computed once for each token, into scratch: 4 bytes * (tokens + 1) * width of a head. Then one
// pass over x, which may be the output.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/gpu/device_run.hpp>
#include <tenon/kernels/rotary.hpp>

#include <cmath>
#include <cstdint>

namespace tenon::gpu {

inline constexpr std::int64_t most_rotary_pairs = 128;

/// Radians per place of each pair of a head: y [pairs]. They go to the device with the functor.
struct RotaryFrequencies {
  double of_pair[most_rotary_pairs];
  double* y;
  TENON_HD void operator()(std::int64_t i) const { y[i] = of_pair[i]; }
};

/// The place of token t of a sequence, of the pairs that an axis turns.
struct RotaryPlaces {
  const float* given = nullptr; ///< [tokens, 3], or null: the axes are frame, row and column
  std::int64_t first = 0;       ///< of the last axis
  std::int64_t height = 1;
  std::int64_t width = 1;
  TENON_HD double at(std::int64_t t, std::int64_t axis) const {
    if (given != nullptr) return static_cast<double>(given[3 * t + axis]);
    const std::int64_t place = axis == 0   ? t / (height * width)
                               : axis == 1 ? t / width % height
                                           : first + t % width;
    return static_cast<double>(place);
  }
};

/// turns [tokens, pairs, 2]: cosine and sine
struct RotaryTurnElement {
  const double* frequencies; ///< [pairs]
  RotaryPlaces places;
  std::int64_t pairs;
  std::int64_t second; ///< the first pair that the second axis turns
  std::int64_t third;
  float* turns;
  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t pair = i % pairs;
    const std::int64_t axis = pair < second ? 0 : pair < third ? 1 : 2;
    const double turn = places.at(i / pairs, axis) * frequencies[pair];
    turns[2 * i] = static_cast<float>(std::cos(turn));
    turns[2 * i + 1] = static_cast<float>(std::sin(turn));
  }
};

/// Item: a pair of a head of a row.
struct RotateElement {
  const float* x;
  float* y;
  const float* turns;
  std::int64_t tokens;
  std::int64_t heads;
  std::int64_t pairs;
  bool is_neighbours; ///< pairs (2 i, 2 i + 1), else (i, i + pairs)
  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t pair = i % pairs;
    const std::int64_t token = i / (pairs * heads) % tokens;
    const std::int64_t a = i / pairs * 2 * pairs + (is_neighbours ? 2 * pair : pair);
    const std::int64_t b = a + (is_neighbours ? 1 : pairs);
    const float cosine = turns[2 * (token * pairs + pair)];
    const float sine = turns[2 * (token * pairs + pair) + 1];
    const float first = x[a];
    const float second = x[b];
    y[a] = first * cosine - second * sine;
    y[b] = second * cosine + first * sine;
  }
};

/// The widths of a head's parts; of Rotary there is one.
[[nodiscard]] inline std::int64_t rotary_head_width(const StepContext& context) noexcept {
  const auto& widths = context.params.integers;
  return widths[0] + widths[1] + widths[2];
}
/// Tokens that have a place of their own.
[[nodiscard]] inline std::int64_t rotary_tokens(const StepContext& context) noexcept {
  const WireView& x = context.inputs[0];
  return context.inputs.size() > 1 ? context.inputs[1].rows() : x.rows() / x.extent(0);
}

inline std::int64_t rotary_step_scratch(const StepContext& context) {
  const std::int64_t width = rotary_head_width(context);
  return DeviceScratch::rounded(width / 2 * static_cast<std::int64_t>(sizeof(double))) +
         DeviceScratch::rounded(rotary_tokens(context) * width * static_cast<std::int64_t>(sizeof(float)));
}

/// Which pairs each axis turns, and where tokens are.
struct RotaryAxes {
  std::int64_t second = 0; ///< the first pair that the second axis turns
  std::int64_t third = 0;
  RotaryPlaces places{};
};

/// x [batch, ..., heads * width] -> the same, turned.
inline void rotate(const StepContext& context, RotaryFrequencies frequencies, const RotaryAxes& axes,
                   bool is_neighbours) {
  const WireView& x = context.inputs[0];
  const std::int64_t tokens = rotary_tokens(context);
  const std::int64_t pairs = rotary_head_width(context) / 2;
  DeviceScratch scratch(context.device->scratch);
  frequencies.y = scratch.take<double>(pairs);
  float* const turns = scratch.take<float>(tokens * pairs * 2);
  gpu::Queue& queue = context.device->queue;
  for_each_index(queue, pairs, frequencies);
  for_each_index(queue, tokens * pairs,
                 RotaryTurnElement{frequencies.y, axes.places, pairs, axes.second, axes.third, turns});
  for_each_index(queue, x.size() / 2,
                 RotateElement{x.values().data(), context.output.values().data(), turns, tokens,
                               x.width() / (2 * pairs), pairs, is_neighbours});
}

/// Throws `error{unsupported}` for a head wider than 256.
inline void require_rotary_width(const StepContext& context) {
  if (rotary_head_width(context) > 2 * most_rotary_pairs)
    throw error(ErrorCode::unsupported,
                concat("on a device: rotary positions of a head of at most ", 2 * most_rotary_pairs,
                       " numbers, got ", rotary_head_width(context)));
}

/// params.integers[0]: width of a head; reals: the five numbers of Turns. Token t is at place t, after earlier calls'.
inline void rotary_step(const StepContext& context) {
  require_rotary_width(context);
  const auto& reals = context.params.reals;
  const kernels::RotaryAngles angles{.theta = static_cast<double>(reals[0]),
                                     .factor = static_cast<double>(reals[1]),
                                     .low_factor = static_cast<double>(reals[2]),
                                     .high_factor = static_cast<double>(reals[3]),
                                     .original_positions = static_cast<double>(reals[4])};
  const std::int64_t width = rotary_head_width(context);
  RotaryFrequencies frequencies{};
  for (std::int64_t i = 0; i < width / 2; ++i) frequencies.of_pair[i] = angles.frequency(i, width);
  // a line is one long row: all pairs are the third axis's
  rotate(context, frequencies, {.places = {.first = context.past, .width = rotary_tokens(context)}}, false);
}

/// params.integers: the widths of three parts; reals: theta. Places: the frame, row and column of x [batch, frames, height,
/// width, d]; or, where a second wire [tokens, 3] gives them, its numbers.
inline void rotary_axes_step(const StepContext& context) {
  require_rotary_width(context);
  const WireView& x = context.inputs[0];
  const auto& widths = context.params.integers;
  const kernels::RotaryAngles angles{.theta = static_cast<double>(context.params.reals[0])};
  RotaryFrequencies frequencies{};
  std::int64_t pair = 0;
  for (const std::int64_t width : {widths[0], widths[1], widths[2]})
    for (std::int64_t i = 0; i < width / 2; ++i) frequencies.of_pair[pair++] = angles.frequency(i, width);
  RotaryAxes axes{.second = widths[0] / 2, .third = (widths[0] + widths[1]) / 2};
  if (context.inputs.size() > 1)
    axes.places.given = context.inputs[1].values().data();
  else
    axes.places = {.height = x.extent(2), .width = x.extent(3)};
  rotate(context, frequencies, axes, true);
}

} // namespace tenon::gpu

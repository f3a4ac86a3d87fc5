// SPDX-License-Identifier: Apache-2.0
// TimestepFeatures<Width>: numbers t as cosines and sines of t * 10000^(-i / half), i < half = Width / 2 (Ho et al. 2020,
// arXiv 2006.11239, appendix B; Vaswani et al. 2017): how diffusion models read the time. Cosines first, as diffusers'
// Timesteps with flip_sin_to_cos and downscale_freq_shift 0.
#pragma once

#include <tenon/graph/op.hpp>

#include <cmath>

namespace tenon {

/// params.integers: features of a number; reals: what numbers are multiplied by.
inline void timestep_features_step(const StepContext& context) {
  const WireView& t = context.inputs[0];
  const std::int64_t width = context.params.integers[0];
  const std::int64_t half = width / 2;
  const std::span<const float> numbers = t.values();
  float* y = context.output.values().data();
  for (const float number : numbers) {
    for (std::int64_t i = 0; i < half; ++i) {
      const double frequency =
          std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(half));
      const double angle =
          static_cast<double>(number) * static_cast<double>(context.params.reals[0]) * frequency;
      y[i] = static_cast<float>(std::cos(angle));
      y[half + i] = static_cast<float>(std::sin(angle));
    }
    y += width;
  }
}

/// t [batch] -> [batch, Width]; or, of several numbers, [batch, Count] -> [batch, Count * Width]. `Factor`: what t is
/// multiplied by first (1000 where times are 0 ... 1).
template <std::int64_t Width, std::int64_t Count = 1, std::int64_t Factor = 1>
struct TimestepFeatures {
  static_assert(Width > 0 && Width % 2 == 0, "tenon::TimestepFeatures: an even number of features");

  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) {
    return Count == 1 ? Shape::of({batch_dim}) : Shape::of({batch_dim, fixed(Count)});
  }
  static constexpr Shape gives(std::span<const Shape>) {
    return Shape::of({batch_dim, fixed(Count * Width)});
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "TimestepFeatures",
                         .run = &timestep_features_step,
                         .inputs = {wires[0]},
                         .output = Shape::of({batch_dim, fixed(Count * Width)}),
                         .params = {.integers = {Width}, .reals = {static_cast<float>(Factor)}}});
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// UpsampleNearest<2>: each position of an image four times, twice along height and width, as
// torch.nn.functional.interpolate(scale_factor=2, mode="nearest"); frames stay. Channels are last. Cost: one read,
// one write of the output.
#pragma once

#include <tenon/graph/op.hpp>

#include <algorithm>
#include <cstdint>
#include <span>

namespace tenon {

/// params.integers[0]: the factor.
inline void upsample_nearest_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const std::int64_t times = context.params.integers[0];
  const std::int64_t channels = x.width();
  const std::int64_t width = x.extent(x.rank - 2);
  const std::int64_t out_line = width * times * channels;
  const float* const from = x.values().data();
  float* const to = context.output.values().data();
  context.workers.share(
      x.rows() / width, 1, times * out_line, [=](std::int64_t first, std::int64_t count, kernels::Scratch) {
        for (std::int64_t line = first; line < first + count; ++line) {
          float* const out = to + line * times * out_line;
          for (std::int64_t i = 0; i < width * times; ++i)
            std::copy_n(from + (line * width + i / times) * channels, channels, out + i * channels);
          for (std::int64_t i = 1; i < times; ++i) std::copy_n(out, out_line, out + i * out_line);
        }
      });
}

/// [batch, height, width, c] -> [batch, height * Factor, width * Factor, c]; with frames likewise.
template <std::int64_t Factor>
struct UpsampleNearest {
  static_assert(Factor > 0, "tenon::UpsampleNearest: the factor is a positive number");

  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::any(); }
  static constexpr Shape gives(std::span<const Shape> shapes) {
    Shape shape = shapes[0];
    if (shape.is_any()) return shape; // not known yet
    if (shape.rank < 4) throw "tenon::UpsampleNearest: it reads [batch, height, width, channels]";
    for (int axis = shape.rank - 3; axis < shape.rank - 1; ++axis)
      shape.dims[axis] = shape.dims[axis] * Factor;
    return shape;
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const Shape in = builder.shape(wires[0]);
    return builder.step({.op = "UpsampleNearest",
                         .run = &upsample_nearest_step,
                         .inputs = {wires[0]},
                         .output = gives(std::span<const Shape>(&in, 1)),
                         .params = {.integers = {Factor}}});
  }
};

} // namespace tenon

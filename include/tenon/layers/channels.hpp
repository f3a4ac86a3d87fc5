// SPDX-License-Identifier: Apache-2.0
// Between torch's layout of images and Tenon's: ChannelsLast<C> reads [batch, c, height, width] and gives [batch,
// height, width, c], ChannelsFirst<C> the other way; with three axes there are frames before the height. Cost: one
// read, one write.
#pragma once

#include <tenon/graph/op.hpp>
#include <tenon/kernels/transpose.hpp>

#include <cstdint>
#include <span>

namespace tenon {

/// Each image as a matrix [channels, positions] or [positions, channels], turned round.
template <bool IsToLast>
void channels_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const std::int64_t batch = x.extent(0);
  const std::int64_t rows = IsToLast ? x.extent(1) : x.rows() / batch;
  const std::int64_t cols = x.size() / batch / rows;
  const float* const from = x.values().data();
  float* const to = context.output.values().data();
  for (std::int64_t i = 0; i < batch; ++i) {
    const kernels::ConstMatrix image{from + i * rows * cols, rows, cols, cols};
    const kernels::Matrix turned{to + i * rows * cols, cols, rows, rows};
    context.workers.share(cols, kernels::transpose_block, 4 * rows,
                          [&](std::int64_t first, std::int64_t count, kernels::Scratch) {
                            kernels::transpose(image.cols_from(first, count), turned.rows_from(first, count));
                          });
  }
}

/// [batch, c, height, width] -> [batch, height, width, c]; `Axes` 3 for [batch, c, frames, height, width].
template <std::int64_t C, int Axes = 2>
struct ChannelsLast {
  static_assert(C > 0 && (Axes == 2 || Axes == 3), "tenon::ChannelsLast: channels, and two or three axes");

  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) {
    const Shape last = Shape::grid_of(C, Axes);
    Shape first = last;
    first.dims[1] = fixed(C);
    for (int axis = 2; axis < first.rank; ++axis) first.dims[axis] = last.dims[axis - 1];
    return first;
  }
  static constexpr Shape gives(std::span<const Shape> shapes) {
    Shape shape = shapes[0];
    for (int axis = 2; axis < shape.rank; ++axis) shape.dims[axis - 1] = shapes[0].dims[axis];
    return shape.with_width(C);
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const Shape in = builder.shape(wires[0]);
    return builder.step({.op = "ChannelsLast",
                         .run = &channels_step<true>,
                         .inputs = {wires[0]},
                         .output = gives(std::span<const Shape>(&in, 1))});
  }
};

/// [batch, height, width, c] -> [batch, c, height, width]; `Axes` 3 for [batch, frames, height, width, c].
template <std::int64_t C, int Axes = 2>
struct ChannelsFirst {
  static_assert(C > 0 && (Axes == 2 || Axes == 3), "tenon::ChannelsFirst: channels, and two or three axes");

  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::grid_of(C, Axes); }
  static constexpr Shape gives(std::span<const Shape> shapes) {
    Shape shape = shapes[0];
    shape.dims[1] = shapes[0].last();
    for (int axis = 2; axis < shape.rank; ++axis) shape.dims[axis] = shapes[0].dims[axis - 1];
    return shape;
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const Shape in = builder.shape(wires[0]);
    return builder.step({.op = "ChannelsFirst",
                         .run = &channels_step<false>,
                         .inputs = {wires[0]},
                         .output = gives(std::span<const Shape>(&in, 1))});
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Ops that put wires side by side, and take them apart: JoinTokens (one sequence after the other), FirstTokens and
// LastTokens (as many as another wire has), JoinChannels (one's channels after the other's). Takes<Shape>: says what an
// input is, and computes nothing.
#pragma once

#include <tenon/graph/op.hpp>

#include <algorithm>

namespace tenon {

/// A wire of this shape, or that fits this pattern, as it is: says what an input's dimensions are.
template <Shape S>
struct Takes {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return S; }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0].is_any() ? S : shapes[0]; }
  static constexpr WireId lower(Builder&, std::span<const WireId> wires) { return wires[0]; }
};

/// One row for each sequence [batch, d]; another sequence that is read [batch, context, d]; images, channels last.
template <std::int64_t D>
using PerSequence = Takes<Shape::of({batch_dim, fixed(D)})>;
template <std::int64_t D>
using ContextOf = Takes<Shape::of({batch_dim, context_dim, fixed(D)})>;
template <std::int64_t C>
using ImagesOf = Takes<Shape::grid_of(C)>;

/// What the ops below see of a wire: runs of numbers, one for each sequence.
struct Runs {
  float* data = nullptr;
  std::int64_t count = 0;
  std::int64_t size = 0;
};
[[nodiscard]] inline Runs runs_of(const WireView& wire, std::int64_t count) noexcept {
  return {wire.values().data(), count, wire.size() / count};
}

/// Sequences: all dimensions before the last two.
[[nodiscard]] inline std::int64_t sequence_count(const WireView& wire) noexcept {
  return wire.rank < 3 ? 1 : wire.rows() / wire.extent(wire.rank - 2);
}

inline void join_runs(const Runs& a, const Runs& b, const Runs& y) {
  for (std::int64_t i = 0; i < y.count; ++i) {
    std::copy_n(a.data + i * a.size, a.size, y.data + i * y.size);
    std::copy_n(b.data + i * b.size, b.size, y.data + i * y.size + a.size);
  }
}

inline void join_tokens_step(const StepContext& context) {
  const std::int64_t count = sequence_count(context.output);
  join_runs(runs_of(context.inputs[0], count), runs_of(context.inputs[1], count),
            runs_of(context.output, count));
}

/// a [batch, n, d], then b [batch, m, d] -> [batch, n + m, d]; or both without a batch.
template <std::int64_t D>
struct JoinTokens {
  static constexpr std::size_t inputs = 2;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(D); }
  static constexpr Shape gives(std::span<const Shape> shapes) {
    Shape shape = shapes[0];
    const int axis = shape.rank - 2;
    if (shape.rank >= 2 && shapes[1].rank == shape.rank)
      shape.dims[axis] = shape.dims[axis] + shapes[1].dims[axis];
    return shape;
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const Shape shapes[] = {builder.shape(wires[0]), builder.shape(wires[1])};
    if (shapes[0].rank != shapes[1].rank || shapes[0].rank < 2)
      throw "tenon::JoinTokens: it joins two wires of equally many dimensions, at least two";
    return builder.step({.op = "JoinTokens",
                         .run = &join_tokens_step,
                         .inputs = {wires[0], wires[1]},
                         .output = gives(shapes)});
  }
};

/// params.integers[0]: 1 for the last tokens.
inline void take_tokens_step(const StepContext& context) {
  const std::int64_t count = sequence_count(context.output);
  const Runs x = runs_of(context.inputs[0], count);
  const Runs y = runs_of(context.output, count);
  const std::int64_t first = context.params.integers[0] != 0 ? x.size - y.size : 0;
  for (std::int64_t i = 0; i < count; ++i)
    std::copy_n(x.data + i * x.size + first, y.size, y.data + i * y.size);
}

template <std::int64_t D, bool FromEnd>
struct TakeTokens {
  static constexpr std::size_t inputs = 2;
  static constexpr Shape takes(std::size_t input) { return input == 0 ? Shape::rows_of(D) : Shape::any(); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[1].with_width(D); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = FromEnd ? "LastTokens" : "FirstTokens",
                         .run = &take_tokens_step,
                         .inputs = {wires[0], wires[1]},
                         .output = builder.shape(wires[1]).with_width(D),
                         .params = {.integers = {FromEnd ? 1 : 0}}});
  }
};
/// Of x [batch, n, d] as many tokens from the beginning, or up to the end, as `like` [batch, m, ...] has -> [batch, m, d].
template <std::int64_t D>
struct FirstTokens : TakeTokens<D, false> {};
template <std::int64_t D>
struct LastTokens : TakeTokens<D, true> {};

inline void join_channels_step(const StepContext& context) {
  const std::int64_t count = context.output.rows();
  join_runs(runs_of(context.inputs[0], count), runs_of(context.inputs[1], count),
            runs_of(context.output, count));
}

/// a [..., A] and b [..., B] -> [..., A + B]: a UNet's skip connection, attention beside a feed-forward.
template <std::int64_t A, std::int64_t B>
struct JoinChannels {
  static constexpr std::size_t inputs = 2;
  static constexpr Shape takes(std::size_t input) { return Shape::rows_of(input == 0 ? A : B); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0].with_width(A + B); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    if (!(builder.shape(wires[0]).with_width(1) == builder.shape(wires[1]).with_width(1)))
      throw "tenon::JoinChannels: the two wires must agree in all dimensions but the last";
    return builder.step({.op = "JoinChannels",
                         .run = &join_channels_step,
                         .inputs = {wires[0], wires[1]},
                         .output = builder.shape(wires[0]).with_width(A + B)});
  }
};

} // namespace tenon

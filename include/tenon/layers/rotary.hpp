// SPDX-License-Identifier: Apache-2.0
// Rotary positions (Su et al. 2021, arXiv 2104.09864) of q or k [batch, ..., heads * width]. Rotary: token t at place t,
// after those that a KvCache holds. RotaryGrid: places are frame, row and column of [batch, frames, height, width, d].
// RotaryAt: places are a second wire's three numbers for each token.
#pragma once

#include <tenon/graph/op.hpp>
#include <tenon/kernels/rotary.hpp>

namespace tenon {

/// How fast pairs turn; the numbers of a config.json (rope_theta and, of a rope_scaling of type llama3, its four).
struct Turns {
  float theta = 10000;
  float factor = 1;
  float low_factor = 1;
  float high_factor = 4;
  float original_positions = 8192;
};

/// params.integers: width of a head; reals: the five numbers of Turns.
inline void rotary_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const auto& reals = context.params.reals;
  const kernels::RotaryAngles angles{.theta = static_cast<double>(reals[0]),
                                     .factor = static_cast<double>(reals[1]),
                                     .low_factor = static_cast<double>(reals[2]),
                                     .high_factor = static_cast<double>(reals[3]),
                                     .original_positions = static_cast<double>(reals[4])};
  kernels::rotate_sequences(x.const_matrix(), x.rows() / x.extent(0), context.past,
                            context.params.integers[0], angles, kernels::RotaryPairs::halves,
                            context.output.matrix(), context.workers);
}

inline std::int64_t rotary_step_scratch(const StepContext& context) {
  const auto& widths = context.params.integers;
  return kernels::rotary_scratch_bytes(widths[0] + widths[1] + widths[2]);
}

/// `Width`: all heads together; `HeadWidth`: one.
template <std::int64_t Width, std::int64_t HeadWidth, Turns T = Turns{}>
struct Rotary {
  static_assert(HeadWidth > 0 && HeadWidth % 2 == 0 && Width % HeadWidth == 0,
                "tenon::Rotary: heads of even width, a whole number of them");

  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(Width); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step(
        {.op = "Rotary",
         .run = &rotary_step,
         .scratch = &rotary_step_scratch,
         .inputs = {wires[0]},
         .output = builder.shape(wires[0]),
         .params = {.integers = {HeadWidth},
                    .reals = {T.theta, T.factor, T.low_factor, T.high_factor, T.original_positions}},
         .in_place = 1});
  }
};

/// The widths of the parts of a head that three places turn.
struct RotaryParts {
  std::int64_t first = 0;
  std::int64_t second = 0;
  std::int64_t third = 0;
  float theta = 10000;

  [[nodiscard]] constexpr std::int64_t all() const { return first + second + third; }
  [[nodiscard]] constexpr bool fits(std::int64_t width) const {
    return all() > 0 && first % 2 == 0 && second % 2 == 0 && third % 2 == 0 && width % all() == 0;
  }
};

/// params.integers: the three widths; reals: theta.
[[nodiscard]] inline kernels::RotaryAxes rotary_axes(const StepContext& context) {
  const auto& widths = context.params.integers;
  return {{widths[0], widths[1], widths[2]}, static_cast<double>(context.params.reals[0])};
}

inline void rotary_grid_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const std::int64_t frames = x.extent(1);
  const std::int64_t height = x.extent(2);
  const std::int64_t width = x.extent(3);
  kernels::rotate_by_axes(x.const_matrix(), rotary_axes(context), context.output.matrix(), context.workers,
                          [&](std::int64_t row, int axis) {
                            const std::int64_t place = axis == 0   ? row / (height * width) % frames
                                                       : axis == 1 ? row / width % height
                                                                   : row % width;
                            return static_cast<double>(place);
                          });
}

/// The second input [tokens, 3] is the same for each sequence.
inline void rotary_at_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const kernels::ConstMatrix places = context.inputs[1].const_matrix();
  kernels::rotate_by_axes(
      x.const_matrix(), rotary_axes(context), context.output.matrix(), context.workers,
      [&](std::int64_t row, int axis) { return static_cast<double>(places.row(row % places.rows)[axis]); });
}

[[nodiscard]] constexpr StepParams rotary_params(const RotaryParts& parts) {
  return {.integers = {parts.first, parts.second, parts.third}, .reals = {parts.theta}};
}

/// x [batch, frames, height, width, d] -> the same.
template <std::int64_t Width, RotaryParts P>
struct RotaryGrid {
  static_assert(P.fits(Width), "tenon::RotaryGrid: parts of even width, together the width of a head");

  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(Width); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    if (builder.shape(wires[0]).rank != 5)
      throw "tenon::RotaryGrid: it reads [batch, frames, height, width, channels]";
    return builder.step({.op = "RotaryGrid",
                         .run = &rotary_grid_step,
                         .scratch = &rotary_step_scratch,
                         .inputs = {wires[0]},
                         .output = builder.shape(wires[0]),
                         .params = rotary_params(P),
                         .in_place = 1});
  }
};

/// x [batch, tokens, d] and places [tokens, 3] -> as x.
template <std::int64_t Width, RotaryParts P>
struct RotaryAt {
  static_assert(P.fits(Width), "tenon::RotaryAt: parts of even width, together the width of a head");

  static constexpr std::size_t inputs = 2;
  static constexpr Shape takes(std::size_t input) { return Shape::rows_of(input == 0 ? Width : 3); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "RotaryAt",
                         .run = &rotary_at_step,
                         .scratch = &rotary_step_scratch,
                         .inputs = {wires[0], wires[1]},
                         .output = builder.shape(wires[0]),
                         .params = rotary_params(P),
                         .in_place = 1});
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Rotary<Heads, Turns>: rotary positions (Su et al. 2021, arXiv 2104.09864) of q or k [batch, tokens, heads * width],
// token t at place t, after those that a KvCache holds.
#pragma once

#include <tenon/graph/op.hpp>
#include <tenon/kernels/rotary.hpp>
#include <tenon/layers/attention.hpp>

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
  kernels::rotate_heads(x.const_matrix(), x.rows() / x.extent(0), context.past, context.params.integers[0],
                        angles, false, context.output.matrix(), context.workers);
}

inline std::int64_t rotary_step_scratch(const StepContext& context) {
  return kernels::rotary_scratch_bytes(context.params.integers[0]);
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
         .in_place = true});
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Ops without weights that join or reshape meaning: Add (two wires of one shape), Softmax (over the last
// dimension).
#pragma once

#include <tenon/kernels/elementwise.hpp>
#include <tenon/kernels/softmax.hpp>
#include <tenon/layers/shape_keeping.hpp>

namespace tenon {

inline void add_step(const StepContext& context) {
  kernels::add(context.inputs[0].values(), context.inputs[1].values(), context.output.values());
}

/// a + b, element by element: a residual connection.
struct Add {
  static constexpr std::size_t inputs = 2;
  static constexpr bool same_inputs = true;
  static constexpr Shape takes(std::size_t) { return Shape::any(); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "Add",
                         .run = &add_step,
                         .inputs = {wires[0], wires[1]},
                         .output = builder.shape(wires[0]),
                         .in_place = true});
  }
};

inline void softmax_step(const StepContext& context) {
  kernels::softmax(context.inputs[0].const_matrix(), context.output.matrix());
}

/// exp(x - max) / sum over the last dimension.
struct Softmax : ShapeKeeping<"Softmax", &softmax_step> {};

} // namespace tenon

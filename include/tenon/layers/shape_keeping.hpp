// SPDX-License-Identifier: Apache-2.0
// What activations, softmax and length normalisation have in common: one input of any shape, an output of the same
// shape, no weights, and a step that may write over its input.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/op.hpp>

namespace tenon {

template <fixed_string Name, StepFunction Run>
struct ShapeKeeping {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::any(); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = Name.view(),
                         .run = Run,
                         .inputs = {wires[0]},
                         .output = builder.shape(wires[0]),
                         .in_place = 1});
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Scope<"encoder", Op>: the weights inside carry the prefix `encoder.`; nothing else changes.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/mandate.hpp>

namespace tenon {

template <fixed_string Name, class Op>
struct Scope : IsGraphOp<Op> {
  static constexpr bool is_well_formed = well_formed<Op>();
  static constexpr std::size_t inputs = Op::inputs;
  static constexpr std::size_t required_inputs = tenon::required_inputs<Op>();
  static constexpr std::size_t output_count = tenon::output_count<Op>();
  static constexpr Shape takes(std::size_t input) { return Op::takes(input); }
  static constexpr Shape gives(std::span<const Shape> in) { return Op::gives(in); }
  static constexpr OutputShapes<Op> gives_all(std::span<const Shape> in) { return tenon::gives_all<Op>(in); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> in) {
    return lower_all(builder, in)[0];
  }
  static constexpr OutputWires<Op> lower_all(Builder& builder, std::span<const WireId> in) {
    const std::size_t mark = builder.enter(Name.view());
    const OutputWires<Op> out = tenon::lower_all<Op>(builder, in);
    builder.leave(mark);
    return out;
  }
};

} // namespace tenon

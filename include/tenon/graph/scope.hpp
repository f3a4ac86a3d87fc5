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
  static constexpr Shape takes(std::size_t input) { return Op::takes(input); }
  static constexpr Shape gives(std::span<const Shape> in) { return Op::gives(in); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> in) {
    const std::size_t mark = builder.enter(Name.view());
    const WireId out = Op::lower(builder, in);
    builder.leave(mark);
    return out;
  }
};

} // namespace tenon

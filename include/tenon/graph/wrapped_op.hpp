// SPDX-License-Identifier: Apache-2.0
// An op around another, which takes and gives what that one does and differs in how it is lowered: Scope, Targeted,
// NormSlots.
#pragma once

#include <tenon/graph/mandate.hpp>

#include <cstddef>
#include <span>

namespace tenon {

/// `Self` has `lower_all`.
template <class Self, class Op>
struct WrappedOp : IsGraphOp<Op> {
  static constexpr bool is_well_formed = well_formed<Op>();
  static constexpr std::size_t inputs = Op::inputs;
  static constexpr std::size_t required_inputs = tenon::required_inputs<Op>();
  static constexpr std::size_t output_count = tenon::output_count<Op>();
  static constexpr Shape takes(std::size_t input) { return Op::takes(input); }
  static constexpr Shape gives(std::span<const Shape> in) { return Op::gives(in); }
  static constexpr OutputShapes<Op> gives_all(std::span<const Shape> in) { return tenon::gives_all<Op>(in); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> in) {
    return Self::lower_all(builder, in)[0];
  }
};

} // namespace tenon

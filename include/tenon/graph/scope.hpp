// SPDX-License-Identifier: Apache-2.0
// Scope<"encoder", Op>: the weights inside carry the prefix `encoder.`; nothing else changes.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/mandate.hpp>

#include <type_traits>

namespace tenon {

template <fixed_string Name, class Op>
struct ScopeOfOne : IsGraphOp<Op> {
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

/// Of an op that gives several wires.
template <fixed_string Name, class Op>
struct ScopeOfSeveral : ScopeOfOne<Name, Op> {
  static constexpr std::size_t output_count = Op::output_count;
  static constexpr auto gives_all(std::span<const Shape> in) { return Op::gives_all(in); }
  static constexpr auto lower_all(Builder& builder, std::span<const WireId> in) {
    const std::size_t mark = builder.enter(Name.view());
    const auto out = Op::lower_all(builder, in);
    builder.leave(mark);
    return out;
  }
};

template <class Op>
[[nodiscard]] consteval bool gives_several() {
  if constexpr (requires { Op::output_count; })
    return Op::output_count > 1;
  else
    return false;
}

template <fixed_string Name, class Op>
struct Scope : std::conditional_t<gives_several<Op>(), ScopeOfSeveral<Name, Op>, ScopeOfOne<Name, Op>> {};

} // namespace tenon

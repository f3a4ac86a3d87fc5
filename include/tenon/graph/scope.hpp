// SPDX-License-Identifier: Apache-2.0
// Scope<"encoder", Op>: the weights inside carry the prefix `encoder.`; nothing else changes.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/wrapped_op.hpp>

namespace tenon {

template <fixed_string Name, class Op>
struct Scope : WrappedOp<Scope<Name, Op>, Op> {
  static constexpr OutputWires<Op> lower_all(Builder& builder, std::span<const WireId> in) {
    const std::size_t mark = builder.enter(Name.view());
    const OutputWires<Op> out = tenon::lower_all<Op>(builder, in);
    builder.leave(mark);
    return out;
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Targeted<Op, Targets<"to_q", "to_v">>: the same op with these slots open and all others closed. A closed slot is none:
// its layer runs the step that knows nothing of adapters. Patterns are those of PEFT's `target_modules` as a list: one fits
// a slot whose path in the op is it, or ends with it after a dot; `*` stands for one element of a path (a loop's index).
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/target_filter.hpp>
#include <tenon/graph/wrapped_op.hpp>

#include <array>
#include <string_view>

namespace tenon {

/// The slots that stay open. `Targets<>` closes all.
template <fixed_string... Patterns>
struct Targets {
  static constexpr std::array<std::string_view, sizeof...(Patterns)> patterns{Patterns.view()...};
};

/// Of those, slots that are closed after all, as PEFT's `exclude_modules`.
template <fixed_string... Patterns>
struct Except {
  static constexpr std::array<std::string_view, sizeof...(Patterns)> patterns{Patterns.view()...};
};

/// Targeted ops nest: a slot is open if all around it have it open. A pattern that fits no slot is refused.
template <class Op, class Wanted, class Unwanted = Except<>>
struct Targeted : WrappedOp<Targeted<Op, Wanted, Unwanted>, Op> {
  static constexpr OutputWires<Op> lower_all(Builder& builder, std::span<const WireId> in) {
    std::array<bool, Wanted::patterns.size() + Unwanted::patterns.size()> used{};
    TargetFilter filter{.wanted = Wanted::patterns, .unwanted = Unwanted::patterns, .used = used};
    builder.begin_targets(filter);
    const OutputWires<Op> out = tenon::lower_all<Op>(builder, in);
    builder.end_targets(filter);
    for (const bool fits : used)
      if (!fits) throw "tenon::Targeted: a pattern fits no slot of this op";
    return out;
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Sequential<Ops...>: each op reads what the one before it gives. The first pair that does not fit is a
// compile error that names both ops and both widths.
#pragma once

#include <tenon/graph/mandate.hpp>

#include <array>

namespace tenon {

struct ChainFault {
  MisfitAt misfit{};
  std::size_t op = 0;       ///< the reader
  std::size_t producer = 0; ///< the last op before it that fixed the width
};

/// What is known of a chain before it is lowered.
struct ChainFacts {
  bool is_well_formed = true;
  bool has_one_wire = true; ///< that every op reads, and every op gives
  Shape takes = Shape::any();
  ChainFault fault{};
};

/// The input of a chain is open until an op fixes it: ops that take any shape keep its width, so the first that does
/// decides.
[[nodiscard]] constexpr Shape chain_takes(std::span<const OpFacts> ops) {
  for (const OpFacts& op : ops)
    if (const Shape taken = op.takes(0); !taken.is_any()) return taken;
  return Shape::any();
}

/// Follows the shape along a chain, up to the first op that does not take it. Not a template: the type of a
/// chain of 200 ops in the name of each step's instantiation is megabytes of names.
[[nodiscard]] constexpr ChainFault first_chain_fault(std::span<const OpFacts> ops, const Shape& taken) {
  Shape shape = taken.opened();
  std::size_t producer = 0;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const std::span<const Shape> in(&shape, 1);
    const MisfitAt misfit = first_misfit(ops[i], in);
    if (misfit.kind != Misfit::none) return {misfit, i, producer};
    if (!ops[i].takes(0).is_any()) producer = i;
    shape = ops[i].gives(in);
  }
  return {};
}

[[nodiscard]] constexpr ChainFacts chain_facts(std::span<const OpFacts> ops) {
  ChainFacts facts{.takes = chain_takes(ops)};
  for (const OpFacts& op : ops) {
    facts.is_well_formed = facts.is_well_formed && op.is_well_formed;
    facts.has_one_wire = facts.has_one_wire && op.required_inputs == 1 && op.output_count == 1;
  }
  if (facts.is_well_formed) facts.fault = first_chain_fault(ops, facts.takes);
  facts.is_well_formed = facts.is_well_formed && facts.fault.misfit.kind == Misfit::none;
  return facts;
}

template <ChainFault Fault, class... Ops>
[[nodiscard]] consteval auto chain_mandate() {
  if constexpr (Fault.misfit.kind == Misfit::none)
    return MandateName<NothingToMandate<Misfit>>{};
  else
    return fit_mandate<nth_type<Fault.producer, Ops...>, nth_type<Fault.op, Ops...>, Fault.misfit>();
}

template <class... Ops>
struct Chain {
  static_assert(sizeof...(Ops) > 0, "tenon::Sequential: it needs at least one op");
  static constexpr ChainFacts facts = [] {
    const OpFacts ops[] = {op_facts<Ops>()...};
    return chain_facts(ops);
  }();
  static_assert(facts.has_one_wire,
                "tenon::Sequential: every op must read and give one wire; use a Graph to name several");
  using Mandate = typename decltype(chain_mandate<facts.fault, Ops...>())::type;
};

template <class... Ops>
struct Sequential : Chain<Ops...>::Mandate {
  static constexpr bool is_well_formed = Chain<Ops...>::facts.is_well_formed;
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Chain<Ops...>::facts.takes; }
  static constexpr Shape gives(std::span<const Shape> in) {
    Shape shape = in[0];
    ((shape = Ops::gives(std::span<const Shape>(&shape, 1))), ...);
    return shape;
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> in) {
    WireId wire = in[0];
    ((wire = Ops::lower(builder, std::span<const WireId>(&wire, 1))), ...);
    return wire;
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Sequential<Ops...>: each op reads what the one before it gives. The first pair that does not fit is a
// compile error that names both ops and both widths.
#pragma once

#include <tenon/graph/mandate.hpp>

#include <array>

namespace tenon {

/// The input of a chain is open until an op fixes it: ops that take any shape keep it, so the first that does
/// decides.
template <class... Ops>
[[nodiscard]] constexpr Shape chain_takes() {
  Shape taken = Shape::any();
  (void)((taken = Ops::takes(0), !taken.is_any()) || ...);
  return taken;
}

struct ChainFault {
  MisfitAt misfit{};
  std::size_t op = 0;       ///< the reader
  std::size_t producer = 0; ///< the last op before it that fixed the width
};

/// Follows the shape along a chain. Not a template over the chain, whose type would stand in the name of each step's
/// instantiation: with 200 ops that is megabytes of names.
struct ChainWalk {
  Shape shape{};
  ChainFault fault{};
  std::size_t op = 0;
  std::size_t producer = 0;

  template <class Op>
  constexpr bool pass() {
    const std::span<const Shape> in(&shape, 1);
    const MisfitAt misfit = first_misfit<Op>(in);
    if (misfit.kind != Misfit::none) {
      fault = {misfit, op, producer};
      return false;
    }
    if (!Op::takes(0).is_any()) producer = op;
    shape = Op::gives(in);
    ++op;
    return true;
  }
};

template <class... Ops>
[[nodiscard]] consteval ChainFault first_chain_fault() {
  ChainWalk walk{chain_takes<Ops...>().opened()};
  if constexpr ((well_formed<Ops>() && ...)) (void)(walk.pass<Ops>() && ...);
  return walk.fault;
}

template <ChainFault Fault, class... Ops>
[[nodiscard]] consteval auto chain_mandate() {
  if constexpr (Fault.misfit.kind == Misfit::none)
    return MandateName<NothingToMandate<Misfit>>{};
  else
    return fit_mandate<nth_type<Fault.producer, Ops...>, nth_type<Fault.op, Ops...>, Fault.misfit>();
}

template <class... Ops>
struct ChainFaults {
  static_assert(sizeof...(Ops) > 0, "tenon::Sequential: it needs at least one op");
  static_assert(((required_inputs<Ops>() == 1) && ...),
                "tenon::Sequential: every op must read one wire; use a Graph to name several");
  static constexpr ChainFault fault = first_chain_fault<Ops...>();
  using Mandate = typename decltype(chain_mandate<fault, Ops...>())::type;
};

template <class... Ops>
struct Sequential : ChainFaults<Ops...>::Mandate {
  static constexpr bool is_well_formed =
      (well_formed<Ops>() && ...) && ChainFaults<Ops...>::fault.misfit.kind == Misfit::none;
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return chain_takes<Ops...>(); }
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

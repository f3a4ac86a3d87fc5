// SPDX-License-Identifier: Apache-2.0
// What it means to be an op of a graph: four constexpr members. Layers, Sequential, Repeat, Scope and Graph
// all are ops, and so is a user's own struct with these members.
#pragma once

#include <tenon/graph/builder.hpp>
#include <tenon/graph/shape.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <span>

namespace tenon {

/// `inputs`: how many wires it reads at most. `takes(i)`: the pattern of input i. `gives(shapes)`: the
/// output's shape for inputs that fit. `lower(builder, wires)`: appends its steps and weights, returns the
/// output wire. Optional: `required_inputs` (default `inputs`), `same_inputs` (all input shapes must be
/// equal). An op that gives several wires also has `output_count`, `gives_all` and `lower_all`; `gives` and `lower` are
/// then those of the first.
template <class Op>
concept GraphOp = requires(Builder& builder, std::span<const Shape> shapes, std::span<const WireId> wires) {
  { Op::inputs } -> std::convertible_to<std::size_t>;
  { Op::takes(std::size_t{}) } -> std::same_as<Shape>;
  { Op::gives(shapes) } -> std::same_as<Shape>;
  { Op::lower(builder, wires) } -> std::same_as<WireId>;
};

template <class Op>
[[nodiscard]] consteval std::size_t required_inputs() {
  if constexpr (requires { Op::required_inputs; })
    return Op::required_inputs;
  else
    return Op::inputs;
}

/// False for a node that holds a mistake already reported; what stands around it then keeps quiet.
template <class Op>
[[nodiscard]] consteval bool well_formed() {
  if constexpr (requires { Op::is_well_formed; })
    return Op::is_well_formed;
  else
    return true;
}

/// How many wires an op gives.
template <class Op>
[[nodiscard]] consteval std::size_t output_count() {
  if constexpr (requires { Op::output_count; })
    return Op::output_count;
  else
    return 1;
}

template <class Op>
using OutputShapes = std::array<Shape, output_count<Op>()>;
template <class Op>
using OutputWires = std::array<WireId, output_count<Op>()>;

template <class Op>
[[nodiscard]] constexpr OutputShapes<Op> gives_all(std::span<const Shape> in) {
  if constexpr (requires { Op::gives_all(in); })
    return Op::gives_all(in);
  else
    return {Op::gives(in)};
}

template <class Op>
[[nodiscard]] constexpr OutputWires<Op> lower_all(Builder& builder, std::span<const WireId> in) {
  if constexpr (requires { Op::lower_all(builder, in); })
    return Op::lower_all(builder, in);
  else
    return {Op::lower(builder, in)};
}

/// How an input fails to fit.
enum class Misfit : std::uint8_t { none, dtype, rank, width, unequal };

struct MisfitAt {
  Misfit kind = Misfit::none;
  std::size_t input = 0;
  Shape gives{};
  Shape takes{};
};

[[nodiscard]] constexpr Misfit misfit_of(const Shape& taken, const Shape& wire) noexcept {
  if (wire.is_any() || accepts(taken, wire)) return Misfit::none;
  if (taken.dtype != wire.dtype) return Misfit::dtype;
  if (taken.last().is_fixed() && wire.last().is_fixed() && taken.width() != wire.width())
    return Misfit::width;
  return Misfit::rank;
}

/// What a chain asks of an op. As one constant, since each function template over an op costs a
/// compiler more than all that is done with its answers: a net may have hundreds of ops.
struct OpFacts {
  std::size_t required_inputs = 0;
  std::size_t output_count = 1;
  bool is_well_formed = true;
  bool same_inputs = false;
  Shape (*takes)(std::size_t) = nullptr;
  Shape (*gives)(std::span<const Shape>) = nullptr;
};

template <class Op>
[[nodiscard]] consteval OpFacts op_facts() {
  OpFacts facts{.required_inputs = Op::inputs, .takes = &Op::takes, .gives = &Op::gives};
  if constexpr (requires { Op::required_inputs; }) facts.required_inputs = Op::required_inputs;
  if constexpr (requires { Op::output_count; }) facts.output_count = Op::output_count;
  if constexpr (requires { Op::is_well_formed; }) facts.is_well_formed = Op::is_well_formed;
  if constexpr (requires { Op::same_inputs; }) facts.same_inputs = true;
  return facts;
}

/// The first of `shapes` that the op does not take.
[[nodiscard]] constexpr MisfitAt first_misfit(const OpFacts& op, std::span<const Shape> shapes) {
  for (std::size_t i = 0; i < shapes.size(); ++i)
    if (const Misfit kind = misfit_of(op.takes(i), shapes[i]); kind != Misfit::none)
      return {kind, i, shapes[i], op.takes(i)};
  for (std::size_t i = 1; op.same_inputs && i < shapes.size(); ++i)
    if (!(shapes[i] == shapes[0])) return {Misfit::unequal, i, shapes[i], shapes[0]};
  return {};
}

} // namespace tenon

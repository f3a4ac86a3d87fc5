// SPDX-License-Identifier: Apache-2.0
// What it means to be an op of a graph: four constexpr members. Layers, Sequential, Repeat, Scope and Graph
// all are ops, and so is a user's own struct with these members.
#pragma once

#include <tenon/graph/builder.hpp>
#include <tenon/graph/shape.hpp>

#include <concepts>
#include <cstddef>
#include <span>

namespace tenon {

/// `inputs`: how many wires it reads at most. `takes(i)`: the pattern of input i. `gives(shapes)`: the
/// output's shape for inputs that fit. `lower(builder, wires)`: appends its steps and weights, returns the
/// output wire. Optional: `required_inputs` (default `inputs`), `same_inputs` (all input shapes must be
/// equal).
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
  if (taken.last().axis == Axis::fixed && wire.last().axis == Axis::fixed && taken.width() != wire.width())
    return Misfit::width;
  return Misfit::rank;
}

/// The first of `shapes` that `Op` does not take.
template <class Op>
[[nodiscard]] constexpr MisfitAt first_misfit(std::span<const Shape> shapes) {
  for (std::size_t i = 0; i < shapes.size(); ++i)
    if (const Misfit kind = misfit_of(Op::takes(i), shapes[i]); kind != Misfit::none)
      return {kind, i, shapes[i], Op::takes(i)};
  if constexpr (requires { Op::same_inputs; }) {
    for (std::size_t i = 1; i < shapes.size(); ++i)
      if (!(shapes[i] == shapes[0])) return {Misfit::unequal, i, shapes[i], shapes[0]};
  }
  return {};
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Graph<Inputs<...>, Let<...>..., Outputs<...>>: an op in which data forks and joins. Each Let binds a new wire to an op
// on wires bound before it, each LetAll those of an op that gives several. Checked when the type is instantiated: a wire
// used before it is bound, bound twice, never used, an op with the wrong number of wires, a wire whose shape the op does
// not take.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/graph_wires.hpp>

namespace tenon {

/// The wires a graph is given, by name. Their shapes are what their first readers take.
template <fixed_string... Names>
struct Inputs {
  static constexpr std::size_t count = sizeof...(Names);
  static constexpr std::array<std::string_view, sizeof...(Names)> names{Names.view()...};
};

/// The wires a graph gives back. A graph used as an op by `Let` has one; by `LetAll`, or as a whole net, several.
template <fixed_string... Names>
struct Outputs {
  static constexpr std::size_t count = sizeof...(Names);
  static constexpr std::array<std::string_view, sizeof...(Names)> names{Names.view()...};
};

template <class Op, std::size_t Given>
struct LetBindsAll {
  static_assert(Given == 1, "tenon::Let: its op gives several wires; bind them all with LetAll");
};

/// Binds wire `Name` to `Op` on the wires `Arguments`.
template <fixed_string Name, class Op, fixed_string... Arguments>
struct Let : IsGraphOp<Op>, LetBindsAll<Op, output_count<Op>()> {
  using op = Op;
  static constexpr std::array<std::string_view, 1> names{Name.view()};
  static constexpr std::size_t argument_count = sizeof...(Arguments);
  static constexpr std::array<std::string_view, sizeof...(Arguments)> arguments{Arguments.view()...};

  static constexpr std::array<Shape, 1> gives(std::span<const Shape> in) { return {Op::gives(in)}; }
  static constexpr std::array<WireId, 1> lower(Builder& builder, std::span<const WireId> in) {
    return {Op::lower(builder, in)};
  }
};

template <class Names, class Op, std::size_t Named, std::size_t Given>
struct LetAllNamesAll {
  static_assert(Named == Given, "tenon::LetAll: it must name as many wires as its op gives");
};

/// Binds all wires that `Op` gives: `LetAll<Outputs<"image", "text">, Block, "x", "context">`.
template <class Names, class Op, fixed_string... Arguments>
struct LetAll : IsGraphOp<Op>, LetAllNamesAll<Names, Op, Names::count, output_count<Op>()> {
  using op = Op;
  static constexpr std::array<std::string_view, Names::count> names = Names::names;
  static constexpr std::size_t argument_count = sizeof...(Arguments);
  static constexpr std::array<std::string_view, sizeof...(Arguments)> arguments{Arguments.view()...};

  static constexpr OutputShapes<Op> gives(std::span<const Shape> in) { return gives_all<Op>(in); }
  static constexpr OutputWires<Op> lower(Builder& builder, std::span<const WireId> in) {
    return lower_all<Op>(builder, in);
  }
};

/// Lowers the Lets in order.
struct LowerWalk {
  Builder& builder;
  std::span<const std::string_view> names;
  std::span<WireId> wires;
  std::size_t bound;

  template <class L>
  constexpr void pass() {
    std::array<WireId, L::argument_count> arguments{};
    for (std::size_t i = 0; i < L::argument_count; ++i)
      arguments[i] = wires[wire_index(names, L::arguments[i], bound)];
    const auto made = L::lower(builder, arguments);
    for (std::size_t i = 0; i < L::names.size() && i < made.size(); ++i) {
      builder.name_wire(made[i], L::names[i]);
      wires[bound++] = made[i];
    }
  }
};

/// What is wrong with a graph. Names first; shapes only where the names are right, so that one mistake gives
/// one sentence.
template <class In, class Out, class... Lets>
struct GraphFaults {
  static constexpr bool parts_well_formed = (well_formed<typename Lets::op>() && ...);
  static constexpr WireFaultAt wires = [] {
    if constexpr (parts_well_formed) return first_wire_fault<In, Out, Lets...>();
    return WireFaultAt{};
  }();
  static constexpr ShapeFaultAt shapes = [] {
    if constexpr (parts_well_formed && wires.kind == WireFault::none) return first_shape_fault<In, Lets...>();
    return ShapeFaultAt{};
  }();
  using WireMandate = typename decltype(wire_mandate<Out, wires, Lets...>())::type;
  using ShapeMandate = typename decltype(shape_mandate<shapes, Lets...>())::type;
  static constexpr bool none =
      parts_well_formed && wires.kind == WireFault::none && shapes.misfit.kind == Misfit::none;
};

template <class In, class Out, class... Lets>
struct GraphBody : GraphFaults<In, Out, Lets...>::WireMandate, GraphFaults<In, Out, Lets...>::ShapeMandate {
  static_assert(Out::count > 0, "tenon::Graph: Outputs must name at least one wire");
  static constexpr bool is_well_formed = GraphFaults<In, Out, Lets...>::none;
  static constexpr std::size_t inputs = In::count;
  static constexpr std::size_t output_count = Out::count;
  static constexpr auto input_names = In::names;

  static constexpr Shape takes(std::size_t input) { return taken_from<Lets...>(In::names[input]); }
  static constexpr Shape gives(std::span<const Shape> in) { return gives_all(in)[0]; }

  static constexpr std::array<Shape, Out::count> gives_all(std::span<const Shape> in) {
    std::array<Shape, wire_count<In, Lets...>> shapes{};
    for (std::size_t i = 0; i < In::count; ++i) shapes[i] = in[i];
    ShapeWalk walk{wire_names<In, Lets...>, shapes, In::count};
    (void)(walk.pass<Lets>() && ...);
    std::array<Shape, Out::count> out{};
    for (std::size_t i = 0; i < Out::count; ++i) out[i] = shapes[index_of(Out::names[i])];
    return out;
  }

  static constexpr WireId lower(Builder& builder, std::span<const WireId> in) {
    return lower_all(builder, in)[0];
  }
  static constexpr std::array<WireId, Out::count> lower_all(Builder& builder, std::span<const WireId> in) {
    std::array<WireId, wire_count<In, Lets...>> wires{};
    for (std::size_t i = 0; i < in.size(); ++i) wires[i] = in[i];
    LowerWalk walk{builder, wire_names<In, Lets...>, wires, In::count};
    (walk.pass<Lets>(), ...);
    std::array<WireId, Out::count> out{};
    for (std::size_t i = 0; i < Out::count; ++i) out[i] = wires[index_of(Out::names[i])];
    return out;
  }

 private:
  static constexpr std::size_t index_of(std::string_view wire) {
    return wire_index(wire_names<In, Lets...>, wire, wire_count<In, Lets...>);
  }
};

/// Tells the Lets from the Outputs that close the pack.
template <class In, class Indices, class... Parts>
struct GraphParts;
template <class In, std::size_t... I, class... Parts>
struct GraphParts<In, std::index_sequence<I...>, Parts...> {
  using body = GraphBody<In, nth_type<sizeof...(Parts) - 1, Parts...>, nth_type<I, Parts...>...>;
};

template <class In, class... LetsThenOutputs>
struct Graph
    : GraphParts<In, std::make_index_sequence<sizeof...(LetsThenOutputs) - 1>, LetsThenOutputs...>::body {};

} // namespace tenon

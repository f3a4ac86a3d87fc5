// SPDX-License-Identifier: Apache-2.0
// The wires of a Graph in constant evaluation: where a name is bound, which shapes flow, and the first fault
// of each kind with its mandate. Cost: one pass over the Lets; names are compared as strings, never by
// recursion.
#pragma once

#include <tenon/graph/mandate.hpp>

#include <array>

namespace tenon {

template <class In, class... Lets>
inline constexpr std::size_t wire_count = In::count + (Lets::names.size() + ... + 0);

/// Names of all wires, inputs first, then Lets in order.
template <class In, class... Lets>
inline constexpr auto wire_names = [] {
  std::array<std::string_view, wire_count<In, Lets...>> names{};
  std::size_t n = 0;
  const auto add = [&](std::span<const std::string_view> more) {
    for (const std::string_view name : more) names[n++] = name;
  };
  add(In::names);
  (add(Lets::names), ...);
  return names;
}();

/// Index of wire `name` among the first `bound`, or `bound`.
[[nodiscard]] constexpr std::size_t wire_index(std::span<const std::string_view> names, std::string_view name,
                                               std::size_t bound) {
  for (std::size_t i = 0; i < bound; ++i)
    if (names[i] == name) return i;
  return bound;
}

/// What is wrong with a graph's names, if anything; `let` and `wire` are the culprits.
enum class WireFault : std::uint8_t {
  none,
  bound_twice,
  used_before_bound,
  wrong_count,
  output_unbound,
  never_used
};

struct WireFaultAt {
  WireFault kind = WireFault::none;
  std::size_t let = 0;
  std::size_t given = 0;
  NameText wire{};
};

/// Goes through the Lets in order. Like the walks below it is no template over the graph, whose type would otherwise
/// stand in the name of every instantiation.
struct NameWalk {
  std::span<const std::string_view> names;
  std::span<bool> used; ///< one more than names, for those that are not bound
  std::size_t bound;
  std::size_t let = 0;
  WireFaultAt fault{};

  template <class L>
  constexpr bool pass() {
    for (const std::string_view argument : L::arguments) {
      const std::size_t wire = wire_index(names, argument, bound);
      used[wire] = true;
      if (wire == bound) fault = {WireFault::used_before_bound, let, 0, NameText(argument)};
    }
    for (const std::string_view name : L::names) {
      if (fault.kind == WireFault::none && wire_index(names, name, bound) < bound)
        fault = {WireFault::bound_twice, let, 0, NameText(name)};
      ++bound;
    }
    if (fault.kind == WireFault::none &&
        (L::argument_count < required_inputs<typename L::op>() || L::argument_count > L::op::inputs))
      fault = {WireFault::wrong_count, let, L::argument_count, NameText(L::names[0])};
    ++let;
    return fault.kind == WireFault::none;
  }
};

/// The Let that binds wire `wire`; 0 for an input.
template <class In, class... Lets>
[[nodiscard]] consteval std::size_t let_of(std::size_t wire) {
  std::size_t end = In::count;
  std::size_t let = 0;
  (void)((end += Lets::names.size(), wire < end ? false : (++let, true)) && ...);
  return wire < In::count ? 0 : let;
}

template <class In, class Out, class... Lets>
[[nodiscard]] consteval WireFaultAt first_wire_fault() {
  constexpr std::size_t count = wire_count<In, Lets...>;
  constexpr std::span<const std::string_view> names = wire_names<In, Lets...>;
  std::array<bool, count + 1> used{};
  for (std::size_t i = 1; i < In::count; ++i)
    if (wire_index(names, names[i], i) < i) return {WireFault::bound_twice, 0, 0, NameText(names[i])};

  NameWalk walk{names, used, In::count};
  if (!(walk.pass<Lets>() && ...)) return walk.fault;

  for (const std::string_view name : Out::names) {
    const std::size_t wire = wire_index(names, name, count);
    if (wire == count) return {WireFault::output_unbound, 0, 0, NameText(name)};
    used[wire] = true;
  }
  for (std::size_t i = 0; i < count; ++i)
    if (!used[i]) return {WireFault::never_used, let_of<In, Lets...>(i), 0, NameText(names[i])};
  return {};
}

// --- mandates: one sentence each; `Wire` and `In` are printed by the compiler --------------------
template <class LetOrInputs, fixed_string Wire, bool Bound>
struct WireIsBoundBeforeUse {
  static_assert(Bound, "tenon::Graph: a wire is used before it is bound (or its name is misspelt)");
};
template <class LetOrInputs, fixed_string Wire, bool Once>
struct WireIsBoundOnce {
  static_assert(Once, "tenon::Graph: a wire is bound twice; give each Let a name of its own");
};
template <class LetOrInputs, fixed_string Wire, bool Used>
struct WireIsUsed {
  static_assert(Used, "tenon::Graph: a wire is bound but never used; remove it or name it in Outputs");
};
template <class LetOrInputs, std::size_t Given, std::size_t Required>
struct OpHasItsWires {
  static_assert(Given == Required, "tenon::Graph: a Let must give its op as many wires as the op reads");
};
template <class Outputs, fixed_string Wire, bool Bound>
struct OutputIsBound {
  static_assert(Bound, "tenon::Graph: Outputs names a wire that no Let binds");
};

template <class Out, WireFaultAt Fault, class L>
[[nodiscard]] consteval auto wire_mandate_of() {
  if constexpr (Fault.kind == WireFault::used_before_bound)
    return MandateName<WireIsBoundBeforeUse<L, exact_name<Fault.wire>(), false>>{};
  else if constexpr (Fault.kind == WireFault::bound_twice)
    return MandateName<WireIsBoundOnce<L, exact_name<Fault.wire>(), false>>{};
  else if constexpr (Fault.kind == WireFault::never_used)
    return MandateName<WireIsUsed<L, exact_name<Fault.wire>(), false>>{};
  else if constexpr (Fault.kind == WireFault::wrong_count)
    return MandateName<OpHasItsWires<L, Fault.given, required_inputs<typename L::op>()>>{};
  else
    return MandateName<OutputIsBound<Out, exact_name<Fault.wire>(), false>>{};
}

template <class Out, WireFaultAt Fault, class... Lets>
[[nodiscard]] consteval auto wire_mandate() {
  if constexpr (Fault.kind == WireFault::none)
    return MandateName<NothingToMandate<WireFault>>{};
  else
    return wire_mandate_of<Out, Fault, nth_type<Fault.let, Lets...>>();
}

// --- shapes --------------------------------------------------------------------------------------
/// Asks the readers of a wire what they take, in order, until one says more than "any shape".
struct ReaderWalk {
  std::string_view wire;
  Shape taken = Shape::any();
  std::string_view follow{}; ///< the output of the first reader that takes any shape: it has the wire's shape

  template <class L>
  constexpr bool pass() {
    for (std::size_t i = 0; i < L::argument_count && taken.is_any(); ++i) {
      if (L::arguments[i] != wire) continue;
      taken = L::op::takes(i);
      if (taken.is_any() && follow.empty() && L::names.size() == 1) follow = L::names[0];
    }
    return !taken.is_any();
  }
};

/// What the first reader of `wire` takes; where all readers take any shape, those of the first one's output are asked.
template <class... Lets>
[[nodiscard]] constexpr Shape taken_from(std::string_view wire) {
  for (std::size_t hops = 0; hops <= sizeof...(Lets); ++hops) {
    ReaderWalk walk{wire};
    (void)(walk.pass<Lets>() || ...);
    if (!walk.taken.is_any() || walk.follow.empty()) return walk.taken;
    wire = walk.follow;
  }
  return Shape::any();
}

/// The shapes of all wires, inputs first; stops at the first misfit.
struct ShapeWalk {
  std::span<const std::string_view> names;
  std::span<Shape> shapes;
  std::size_t bound; ///< wires whose shapes are known; set to the inputs
  std::size_t let = 0;
  MisfitAt misfit{};

  template <class L>
  constexpr bool pass() {
    std::array<Shape, L::argument_count> arguments{};
    for (std::size_t i = 0; i < L::argument_count; ++i)
      arguments[i] = shapes[wire_index(names, L::arguments[i], bound)];
    misfit = first_misfit(op_facts<typename L::op>(), arguments);
    if (misfit.kind != Misfit::none) return false;
    const auto given = L::gives(arguments);
    for (std::size_t i = 0; i < L::names.size() && i < given.size(); ++i) shapes[bound++] = given[i];
    ++let;
    return true;
  }
};

/// The first Let whose op does not take its wires, for open inputs.
struct ShapeFaultAt {
  MisfitAt misfit{};
  std::size_t let = 0;
};

template <class In, class... Lets>
[[nodiscard]] consteval ShapeFaultAt first_shape_fault() {
  std::array<Shape, wire_count<In, Lets...>> shapes{};
  for (std::size_t i = 0; i < In::count; ++i) shapes[i] = taken_from<Lets...>(In::names[i]).opened();
  ShapeWalk walk{wire_names<In, Lets...>, shapes, In::count};
  (void)(walk.pass<Lets>() && ...);
  return {walk.misfit, walk.misfit.kind == Misfit::none ? 0 : walk.let};
}

template <ShapeFaultAt Fault, class... Lets>
[[nodiscard]] consteval auto shape_mandate() {
  if constexpr (Fault.misfit.kind == Misfit::none) {
    return MandateName<NothingToMandate<Misfit>>{};
  } else {
    using L = nth_type<Fault.let, Lets...>;
    return fit_mandate<L, typename L::op, Fault.misfit>();
  }
}

} // namespace tenon

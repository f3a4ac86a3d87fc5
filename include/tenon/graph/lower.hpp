// SPDX-License-Identifier: Apache-2.0
// From type to program: a net is lowered once for the sizes and once for the values, in constant evaluation;
// what is left is one constant of arrays. Two weights with one name are found here, and an input whose shape
// nothing fixes.
#pragma once

#include <tenon/graph/mandate.hpp>
#include <tenon/graph/program.hpp>

#include <array>
#include <cstdint>
#include <vector>

namespace tenon {

/// The name a Graph gives its input; other ops have none to give.
template <class Net>
[[nodiscard]] constexpr std::string_view input_name(std::size_t input) {
  if constexpr (requires { Net::input_names; })
    return Net::input_names[input];
  else
    return "input";
}

template <class Net, std::size_t Input, bool Known>
struct InputShapeIsKnown {
  static_assert(
      Known,
      "tenon: nothing in this net fixes the shape of an input; let a layer with a width read it first");
};

/// A call's inputs say what the named dimensions are, so each must be a named axis as it is, or a number.
[[nodiscard]] constexpr Shape plain_input(const Shape& shape) {
  for (int i = 0; i < shape.rank; ++i)
    if (!shape.dims[i].is_plain())
      throw "tenon: an input's dimension must be a number or a named axis as it is";
  return shape;
}

/// Lowers `Net` with open inputs into `builder`.
template <class Net>
constexpr void lower_net(Builder& builder) {
  std::array<WireId, Net::inputs> in{};
  for (std::size_t i = 0; i < Net::inputs; ++i)
    in[i] = builder.input(plain_input(Net::takes(i).opened()), input_name<Net>(i));
  for (const WireId wire : lower_all<Net>(builder, in)) builder.output(wire);
}

template <ProgramSizes N>
struct ProgramStorage {
  std::array<Step, N.steps> steps{};
  std::array<Wire, N.wires> wires{};
  std::array<WeightEntry, N.weights> weights{};
  std::array<SlotEntry, N.slots> slots{};
  std::array<SliceEntry, N.slices> slices{};
  std::array<StateEntry, N.states> states{};
  std::array<Loop, N.loops> loops{};
  std::array<WireId, N.inputs> inputs{};
  std::array<WireId, N.outputs> outputs{};
  std::array<WireId, N.by_first> by_first{};
  std::array<char, N.text> text{};

  [[nodiscard]] constexpr ProgramTables tables() noexcept {
    return {steps.data(), wires.data(),  weights.data(), slots.data(),    slices.data(), states.data(),
            loops.data(), inputs.data(), outputs.data(), by_first.data(), text.data()};
  }
  [[nodiscard]] constexpr Program view() const noexcept {
    return {steps,
            wires,
            weights,
            slots,
            slices,
            states,
            loops,
            inputs,
            outputs,
            by_first,
            {text.data(), text.size()},
            N.weight_count,
            N.slot_count,
            N.state_count};
  }
};

template <class Net>
[[nodiscard]] consteval ProgramSizes measure_net() {
  Builder builder;
  if constexpr (well_formed<Net>()) lower_net<Net>(builder);
  return builder.sizes();
}

template <class Net>
[[nodiscard]] consteval auto store_net() {
  ProgramStorage<measure_net<Net>()> out;
  if constexpr (well_formed<Net>()) {
    Builder builder(out.tables());
    lower_net<Net>(builder);
    builder.finish();
  }
  return out;
}

/// Whether two patterns of one text, under these loops, have a name in common: their indices overlap at each depth.
[[nodiscard]] constexpr bool share_indices(const Program& program, std::int32_t a, std::int32_t b) {
  while (a != no_index && b != no_index && a != b) {
    const Loop& one = program.loops[static_cast<std::size_t>(a)];
    const Loop& other = program.loops[static_cast<std::size_t>(b)];
    if (one.first + one.count <= other.first || other.first + other.count <= one.first) return false;
    a = one.parent;
    b = other.parent;
  }
  return true;
}

/// The name that two weights share, empty if none. By a table of hashes (FNV-1a), not by comparing all pairs.
[[nodiscard]] constexpr NameText shared_weight_name(const Program& program) {
  const std::size_t size = 2 * program.weights.size() + 1;
  std::vector<const WeightEntry*> table(size, nullptr);
  for (const WeightEntry& weight : program.weights) {
    const std::string_view path = program.text_of(weight.path);
    std::uint64_t hash = 14695981039346656037u;
    for (const char c : path) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
    std::size_t at = hash % size;
    for (; table[at] != nullptr; at = at + 1 == size ? 0 : at + 1)
      if (program.text_of(table[at]->path) == path && share_indices(program, table[at]->loop, weight.loop))
        return NameText(path);
    table[at] = &weight;
  }
  return {};
}

template <class Net, fixed_string Path, bool Unique>
struct WeightNamesAreUnique {
  static_assert(Unique, "tenon: two weights of this net have one name; give each layer a name of its own");
};

template <class Net>
struct Lowered : IsGraphOp<Net> {
  static constexpr bool inputs_known = []<std::size_t... I>(std::index_sequence<I...>) {
    (void)(sizeof(InputShapeIsKnown<Net, I, !Net::takes(I).is_any()>) + ... + 0);
    return (!Net::takes(I).is_any() && ...);
  }(std::make_index_sequence<Net::inputs>{});
  static_assert(inputs_known);

  static constexpr auto storage = store_net<Net>();
  static constexpr Program program = storage.view();

  static constexpr NameText shared_name = shared_weight_name(program);
  static_assert(sizeof(WeightNamesAreUnique<Net, exact_name<shared_name>(), shared_name.empty()>) > 0);
};

/// The program of `Net`, a constant.
template <class Net>
[[nodiscard]] constexpr const Program& program_of() noexcept {
  return Lowered<Net>::program;
}

} // namespace tenon

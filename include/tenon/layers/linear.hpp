// SPDX-License-Identifier: Apache-2.0
// Linear<"name", In, Out>: y = x W^T + b over the last dimension; weights `name.weight` [out, in] and
// `name.bias` [out], named and shaped as torch.nn.Linear's. It carries a slot for adapters of every kind unless told otherwise;
// a layer with `NoSlot` runs a step that knows nothing of adapters. The step is slot_product.hpp.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/op.hpp>
#include <tenon/graph/slices.hpp>
#include <tenon/layers/slot_product.hpp>

#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

namespace tenon {

/// Options of Linear: there is no `name.bias`; or there is one, as by default.
struct NoBias {};
struct WithBias {};
template <bool HasBias>
using BiasIf = std::conditional_t<HasBias, WithBias, NoBias>;

template <bool HasSlot>
void linear_step(const StepContext& context) {
  slot_product<HasSlot>(context, context.inputs[0].const_matrix(), context.output.matrix(), context.workers);
}

template <bool HasSlot>
std::int64_t linear_step_scratch(const StepContext& context) {
  const TensorView& w = context.weights[0];
  return slot_product_scratch_bytes<HasSlot>(context.inputs[0].rows(), w.extent(0), w.extent(1),
                                             context.has_deltas);
}

/// What a list of options says; shared by all layers with the same list.
template <class... Options>
struct LinearOptions {
  static constexpr bool has_bias = !(std::is_same_v<Options, NoBias> || ...);
  /// The kinds its slot accepts, as bits: those of the option that is a slot, else all.
  static constexpr std::uint32_t slot_kinds = [] {
    std::uint32_t kinds = AnySlot::kinds;
    [[maybe_unused]] const auto take = [&kinds]<class Option>() {
      if constexpr (requires { Option::kinds; }) kinds = Option::kinds;
    };
    (take.template operator()<Options>(), ...);
    return kinds;
  }();
};

/// Appends the step of a Linear. Not a template, so that hundreds of distinct layers compile it once.
[[nodiscard]] constexpr WireId lower_linear(Builder& builder, WireId x, std::string_view name,
                                            std::int64_t in, std::int64_t out, bool has_bias,
                                            std::uint32_t slot_kinds,
                                            std::span<const SliceSpec> slices = {}) {
  const std::size_t mark = builder.enter(name);
  slot_kinds = builder.open_kinds(slot_kinds);
  const bool has_slot = slot_kinds != 0;
  const std::int32_t weight = builder.weight("weight", {out, in});
  const std::int32_t bias = has_bias ? builder.weight("bias", {out}) : no_index;
  const std::int32_t slot = builder.slot(slot_kinds, weight, bias);
  const WireId y =
      builder.step({.op = "Linear",
                    .run = has_slot ? &linear_step<true> : &linear_step<false>,
                    .scratch = has_slot ? &linear_step_scratch<true> : &linear_step_scratch<false>,
                    .inputs = {x},
                    .output = builder.shape(x).with_width(out),
                    .weights = {weight, bias},
                    .slot = slot});
  builder.leave(mark);
  for (const SliceSpec& slice : slices) builder.slice(slot, slice);
  return y;
}

/// Options, in any order: `Slot<Kinds...>` or `NoSlot` (default `AnySlot`), `NoBias`, those of slices.hpp.
template <fixed_string Name, std::int64_t In, std::int64_t Out, class... Options>
struct Linear {
  static_assert(In > 0 && Out > 0, "tenon::Linear: widths are positive numbers");
  static constexpr std::int64_t in = In;
  static constexpr std::int64_t out = Out;

  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(In); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0].with_width(Out); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    using Chosen = LinearOptions<Options...>;
    return lower_linear(builder, wires[0], Name.view(), In, Out, Chosen::has_bias, Chosen::slot_kinds,
                        SlicesOfLayer<In, Out, Options...>::list);
  }
};

/// y = x W^T with the table W [out, in] of an earlier layer, by its weight's full name: a head tied to an embedding.
/// It has no slot, and reads the table of the model: an adapter beside or merged over an embedding changes that alone.
template <fixed_string Weight, std::int64_t In, std::int64_t Out>
struct TiedLinear {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(In); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0].with_width(Out); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "TiedLinear",
                         .run = &linear_step<false>,
                         .scratch = &linear_step_scratch<false>,
                         .inputs = {wires[0]},
                         .output = builder.shape(wires[0]).with_width(Out),
                         .weights = {builder.tied_weight(Weight.view(), {Out, In})}});
  }
};

} // namespace tenon

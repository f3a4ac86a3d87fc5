// SPDX-License-Identifier: Apache-2.0
// Linear<"name", In, Out>: y = x W^T + b over the last dimension; weights `name.weight` [out, in] and
// `name.bias` [out], named and shaped as torch.nn.Linear's. It carries a slot for LoRA unless told otherwise;
// a layer with `NoSlot` runs a step that knows nothing of adapters.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/op.hpp>
#include <tenon/kernels/linear.hpp>
#include <tenon/kernels/low_rank.hpp>

#include <type_traits>

namespace tenon {

/// Option of Linear: there is no `name.bias`.
struct NoBias {};

/// y += the slot's side terms. They are taken from the list in batches, in the order of attachment.
inline void add_side_terms(const ActiveSlot& slot, kernels::ConstMatrix x, kernels::Matrix y,
                           kernels::Scratch scratch) {
  constexpr std::size_t batch = 16;
  std::array<kernels::LowRankTerm, batch> terms;
  for (const SideTerm* side = slot.first; side != nullptr;) {
    std::size_t count = 0;
    for (; side != nullptr && count < batch; side = side->next) terms[count++] = side->term;
    kernels::low_rank_add(x, std::span<const kernels::LowRankTerm>(terms.data(), count), y, scratch);
  }
}

template <bool HasSlot>
void linear_step(const StepContext& context) {
  const kernels::ConstMatrix x = context.inputs[0].const_matrix();
  const kernels::Matrix y = context.output.matrix();
  const kernels::WeightVector bias = weight_vector(context.weights[1]);
  if constexpr (HasSlot) {
    kernels::linear(x, weight_matrix(context.slot->weight), bias, y, context.scratch);
    add_side_terms(*context.slot, x, y, context.scratch);
  } else {
    kernels::linear(x, weight_matrix(context.weights[0]), bias, y, context.scratch);
  }
}

template <bool HasSlot>
std::int64_t linear_step_scratch(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const TensorView& w = context.weights[0];
  const std::int64_t base = kernels::linear_scratch_bytes(x.rows(), w.extent(0), w.extent(1));
  if constexpr (!HasSlot) return base;
  const std::int64_t side =
      kernels::low_rank_scratch_bytes(x.rows(), w.extent(0), w.extent(1), kernels::low_rank_depth);
  return side > base ? side : base;
}

/// Options, in any order: `Slot<Kinds...>` or `NoSlot` (default `Slot<Lora>`), `NoBias`.
template <fixed_string Name, std::int64_t In, std::int64_t Out, class... Options>
struct Linear {
  static_assert(In > 0 && Out > 0, "tenon::Linear: widths are positive numbers");
  static constexpr std::int64_t in = In;
  static constexpr std::int64_t out = Out;
  static constexpr bool has_bias = !(std::is_same_v<Options, NoBias> || ...);

  /// The kinds its slot accepts, as bits: those of the option that is a slot, else LoRA.
  static constexpr std::uint32_t slot_kinds = [] {
    std::uint32_t kinds = Slot<Lora>::kinds;
    [[maybe_unused]] const auto take = [&kinds]<class Option>() {
      if constexpr (requires { Option::kinds; }) kinds = Option::kinds;
    };
    (take.template operator()<Options>(), ...);
    return kinds;
  }();

  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(In); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0].with_width(Out); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    constexpr bool has_slot = slot_kinds != 0;
    const std::size_t mark = builder.enter(Name.view());
    const std::int32_t weight = builder.weight("weight", {Out, In});
    const std::int32_t bias = has_bias ? builder.weight("bias", {Out}) : no_index;
    const WireId y = builder.step({.op = "Linear",
                                   .run = &linear_step<has_slot>,
                                   .scratch = &linear_step_scratch<has_slot>,
                                   .inputs = {wires[0]},
                                   .output = builder.shape(wires[0]).with_width(Out),
                                   .weights = {weight, bias},
                                   .slot = builder.slot(slot_kinds, weight)});
    builder.leave(mark);
    return y;
  }
};

} // namespace tenon

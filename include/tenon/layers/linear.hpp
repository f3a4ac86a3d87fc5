// SPDX-License-Identifier: Apache-2.0
// Linear<"name", In, Out>: y = x W^T + b over the last dimension; weights `name.weight` [out, in] and
// `name.bias` [out], named and shaped as torch.nn.Linear's. It carries a slot for adapters of every kind unless told otherwise;
// a layer with `NoSlot` runs a step that knows nothing of adapters.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/op.hpp>
#include <tenon/kernels/bias_term.hpp>
#include <tenon/kernels/delta_side.hpp>
#include <tenon/kernels/linear.hpp>
#include <tenon/kernels/low_rank.hpp>

#include <algorithm>
#include <array>
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

/// y += the slot's side terms. They are taken from the list in batches, in the order of attachment.
inline void add_side_terms(const ActiveSlot& slot, kernels::ConstMatrix x, kernels::Matrix y,
                           const kernels::Workers& workers) {
  constexpr std::size_t batch = 16;
  std::array<kernels::LowRankTerm, batch> terms;
  for (const SideTerm* side = slot.terms.first; side != nullptr;) {
    std::size_t count = 0;
    for (; side != nullptr && count < batch; side = side->next) terms[count++] = side->term;
    kernels::low_rank_add(x, std::span<const kernels::LowRankTerm>(terms.data(), count), y, workers);
  }
}

/// y += what other kinds change. The first may take y for the base's product, where the slot computes with
/// its pristine weight.
inline void add_side_deltas(const ActiveSlot& slot, kernels::ConstMatrix x, kernels::Matrix y,
                            const kernels::Workers& workers) {
  const kernels::ConstMatrix product = y;
  const kernels::ConstMatrix* given = slot.is_pristine ? &product : nullptr;
  for (const SideDelta* side = slot.deltas.first; side != nullptr; side = side->next) {
    kernels::delta_add(x, weight_matrix(slot.base), side->term, y, workers, given);
    given = nullptr;
  }
}

/// The row that is added to every row of the product: the bias and what is attached to it.
inline void fill_bias_row(const ActiveSlot& slot, kernels::WeightVector bias, std::span<float> row) noexcept {
  if (bias.empty())
    std::fill(row.begin(), row.end(), 0.0f);
  else
    decode(bias.dtype, bias.data, std::ssize(row), row.data());
  for (const SideBias* side = slot.biases.first; side != nullptr; side = side->next)
    kernels::add_bias_term(side->term, bias, row);
}

/// A slot with more than LoRA: the bias comes last, so that a change of the weight sees the bare product.
inline void linear_with_deltas(const StepContext& context, kernels::ConstMatrix x, kernels::Matrix y) {
  const ActiveSlot& slot = *context.slot;
  kernels::Workers workers = context.workers;
  const std::span<float> bias = workers.take<float>(y.cols);
  fill_bias_row(slot, weight_vector(context.weights[1]), bias);
  kernels::linear(x, weight_matrix(slot.weight), {}, y, workers, context.products);
  add_side_deltas(slot, x, y, workers);
  add_side_terms(slot, x, y, workers);
  for (std::int64_t i = 0; i < y.rows; ++i)
    for (std::int64_t j = 0; j < y.cols; ++j) y.row(i)[j] += bias[static_cast<std::size_t>(j)];
}

template <bool HasSlot>
void linear_step(const StepContext& context) {
  const kernels::ConstMatrix x = context.inputs[0].const_matrix();
  const kernels::Matrix y = context.output.matrix();
  const kernels::WeightVector bias = weight_vector(context.weights[1]);
  if constexpr (HasSlot) {
    const ActiveSlot& slot = *context.slot;
    if (!slot.deltas.empty() || !slot.biases.empty()) return linear_with_deltas(context, x, y);
    kernels::linear(x, weight_matrix(slot.weight), bias, y, context.workers, context.products);
    add_side_terms(slot, x, y, context.workers);
  } else {
    kernels::linear(x, weight_matrix(context.weights[0]), bias, y, context.workers, context.products);
  }
}

template <bool HasSlot>
std::int64_t linear_step_scratch(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const TensorView& w = context.weights[0];
  const std::int64_t base = kernels::linear_scratch_bytes(x.rows(), w.extent(0), w.extent(1));
  if constexpr (!HasSlot) return base;
  const std::int64_t side = kernels::low_rank_scratch_bytes(x.rows(), w.extent(0), w.extent(1));
  const std::int64_t plain = std::max(base, side);
  if (!context.has_deltas) return plain;
  return kernels::scratch_bytes<float>(w.extent(0)) +
         std::max(plain, kernels::delta_side_scratch_bytes(x.rows(), w.extent(0), w.extent(1)));
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
                                            std::uint32_t slot_kinds) {
  const bool has_slot = slot_kinds != 0;
  const std::size_t mark = builder.enter(name);
  const std::int32_t weight = builder.weight("weight", {out, in});
  const std::int32_t bias = has_bias ? builder.weight("bias", {out}) : no_index;
  const WireId y =
      builder.step({.op = "Linear",
                    .run = has_slot ? &linear_step<true> : &linear_step<false>,
                    .scratch = has_slot ? &linear_step_scratch<true> : &linear_step_scratch<false>,
                    .inputs = {x},
                    .output = builder.shape(x).with_width(out),
                    .weights = {weight, bias},
                    .slot = builder.slot(slot_kinds, weight, bias)});
  builder.leave(mark);
  return y;
}

/// Options, in any order: `Slot<Kinds...>` or `NoSlot` (default `AnySlot`), `NoBias`.
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
    return lower_linear(builder, wires[0], Name.view(), In, Out, Chosen::has_bias, Chosen::slot_kinds);
  }
};

/// y = x W^T with the table W [out, in] of an earlier layer, by its weight's full name: a head tied to an embedding.
/// It has no slot: what changes the embedding's table would change it too.
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
                         .weights = {builder.tied_weight(Weight.view())}});
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// NormSlots<Op>: the same op, whose norms carry slots for stored differences and whole tensors (LyCORIS's norms,
// ComfyUI's diff, PEFT's modules_to_save), of their weight and bias. Without it norms have none, as trainers' targets have
// it by default. What a norm's step computes with where it has a slot.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/graph/slot.hpp>
#include <tenon/graph/step.hpp>
#include <tenon/graph/wrapped_op.hpp>
#include <tenon/kernels/bias_term.hpp>
#include <tenon/kernels/delta_rows.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <cstdint>
#include <span>

namespace tenon {

/// The kinds that a norm's slot accepts.
using NormSlot = Slot<Diff, Bias>;

template <class Op>
struct NormSlots : WrappedOp<NormSlots<Op>, Op> {
  static constexpr OutputWires<Op> lower_all(Builder& builder, std::span<const WireId> in) {
    const std::uint32_t before = builder.set_norm_kinds(NormSlot::kinds);
    const OutputWires<Op> out = tenon::lower_all<Op>(builder, in);
    (void)builder.set_norm_kinds(before);
    return out;
  }
};

/// Weight and bias [d] of a norm.
struct NormWeights {
  kernels::WeightVector weight{};
  kernels::WeightVector bias{};
};

/// Those of a step with weights {weight, bias} and all that is attached to its slot, if it has one; sums are made in
/// `workers`' scratch, which must outlive what is returned.
[[nodiscard]] TENON_INLINE NormWeights norm_weights(const StepContext& context, kernels::Workers& workers);

/// Scratch of `norm_weights` for d = `size`, a thread.
[[nodiscard]] constexpr std::int64_t norm_weights_scratch_bytes(std::int64_t size, bool has_deltas) noexcept {
  return !has_deltas ? 0
                     : kernels::scratch_sum({2 * kernels::scratch_bytes<float>(size),
                                             kernels::delta_rows_scratch_bytes(size, 1)});
}

#if TENON_HAS_BODIES
TENON_INLINE NormWeights norm_weights(const StepContext& context, kernels::Workers& workers) {
  const kernels::WeightVector own_bias = weight_vector(context.weights[1]);
  if (context.slot == nullptr) return {weight_vector(context.weights[0]), own_bias};
  const ActiveSlot& slot = *context.slot;
  NormWeights out{weight_vector(slot.weight), own_bias};
  if (!slot.deltas.empty()) {
    const std::span<float> sum = workers.take<float>(out.weight.size);
    decode(out.weight.dtype, out.weight.data, out.weight.size, sum.data());
    for (const SideDelta* side = slot.deltas.first; side != nullptr; side = side->next)
      for (std::int64_t i = 0; i < out.weight.size; i += kernels::delta_strip_rows) {
        const std::int64_t rows = std::min(kernels::delta_strip_rows, out.weight.size - i);
        kernels::add_delta_rows(side->term, weight_matrix(slot.base), i, {sum.data() + i, rows, 1, 1},
                                workers.scratch());
      }
    out.weight = {reinterpret_cast<const std::byte*>(sum.data()), DType::f32, std::ssize(sum)};
  }
  if (!slot.biases.empty()) {
    const std::span<float> sum = workers.take<float>(out.weight.size);
    decode(own_bias.dtype, own_bias.data, own_bias.size, sum.data());
    for (const SideBias* side = slot.biases.first; side != nullptr; side = side->next)
      kernels::add_bias_term(side->term, own_bias, sum);
    out.bias = {reinterpret_cast<const std::byte*>(sum.data()), DType::f32, std::ssize(sum)};
  }
  return out;
}
#endif

} // namespace tenon

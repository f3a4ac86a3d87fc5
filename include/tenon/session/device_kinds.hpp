// SPDX-License-Identifier: Apache-2.0
// What may be attached on a device: LoRA in 16 or 32 bits, and changes of the bias of a Linear or convolution. Anything else is refused by
// name before bytes are taken.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/error.hpp>
#include <tenon/session/attach_plan.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace tenon {

/// The op of the step that has slot `slot`.
[[nodiscard]] inline std::string_view op_of_slot(const Program& program, std::int32_t slot) noexcept {
  for (const Step& step : program.steps) {
    if (step.slot == no_index) continue;
    const SlotEntry& entry = program.slots[static_cast<std::size_t>(step.slot)];
    if (slot >= entry.base && slot < entry.base + entry.copies) return step.op;
  }
  return {};
}

/// Whether an op's step on a device adds what is attached to its bias: those that are products.
[[nodiscard]] inline bool adds_biases_on_device(std::string_view op) noexcept {
  return op == "Linear" || op == "JoinedLinear" || op == "Conv2d" || op == "Conv3d";
}

/// Throws `error{unsupported}` for what the model's device does not do.
TENON_INLINE void check_device_kinds(const AttachPlan& plan, std::string_view operation);

#if TENON_HAS_BODIES
TENON_INLINE void check_device_kinds(const AttachPlan& plan, std::string_view operation) {
  const Program& program = plan.session->program();
  if (plan.measures_loss)
    throw error(ErrorCode::unsupported,
                concat(operation, ": the loss of a merge is measured on the host only"));
  for (const auto& adapter : plan.adapters) {
    const std::string& file = adapter->file.path();
    const auto refuse = [&](std::string_view what, std::int32_t at) {
      const std::string slot = slot_path(program, at);
      throw error(ErrorCode::unsupported,
                  concat(operation, ": ", file, " has ", what, " at ", slot,
                         ", and a device takes LoRA of F32, F16 or BF16 and biases of Linears and "
                         "convolutions; convert it, or "
                         "attach it on the host"),
                  {.file = file, .layer = slot});
    };
    for (const SlotDelta& delta : adapter->deltas) refuse(adapter_kind_name(delta.kind), delta.slot);
    for (const SlotFactors& factors : adapter->factors)
      for (const DType dtype : {factors.a.dtype, factors.b.dtype})
        if (!is_weight_dtype(dtype)) refuse(concat("LoRA of ", dtype_name(dtype)), factors.slot);
    for (const SlotBias& bias : adapter->biases) {
      if (bias.of_weight != nullptr) refuse(adapter_kind_name(AdapterKind::glora), bias.slot);
      if (!is_weight_dtype(bias.values.dtype))
        refuse(concat("a bias of ", dtype_name(bias.values.dtype)), bias.slot);
      if (!adds_biases_on_device(op_of_slot(program, bias.slot))) refuse("a bias of a norm", bias.slot);
    }
  }
}
#endif

} // namespace tenon

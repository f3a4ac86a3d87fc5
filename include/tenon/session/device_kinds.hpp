// SPDX-License-Identifier: Apache-2.0
// What may be attached on a device: everything merged and in place; beside the weights LoRA and VeRA in 16 or 32 bits,
// and changes of biases. The rest is refused by name before bytes are taken.
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

/// Whether an op's step on a device adds what is attached to its bias: products, and norms that have one.
[[nodiscard]] inline bool adds_biases_on_device(std::string_view op) noexcept {
  return op == "Linear" || op == "JoinedLinear" || op == "Conv2d" || op == "Conv3d" || op == "LayerNorm" ||
         op == "AddNorm" || op == "GroupNorm";
}

/// The first thing in a plan that a device does not compute beside a weight.
struct MergedOnly {
  const AdapterData* adapter = nullptr; ///< null: there is none
  std::int32_t slot = 0;
  std::string what{};

  [[nodiscard]] explicit operator bool() const noexcept { return adapter != nullptr; }
  /// "tone.safetensors has DoRA at up, which a device computes only merged"
  [[nodiscard]] std::string text(const Program& program) const {
    return concat(adapter->file.path(), " has ", what, " at ", slot_path(program, slot),
                  ", which a device computes only merged");
  }
};
[[nodiscard]] TENON_INLINE MergedOnly first_merged_only(const AttachPlan& plan);

/// Throws `error{unsupported}` for what the model's device does not do in the plan's mode.
TENON_INLINE void check_device_kinds(const AttachPlan& plan, std::string_view operation);

#if TENON_HAS_BODIES
TENON_INLINE MergedOnly first_merged_only(const AttachPlan& plan) {
  for (const auto& adapter : plan.adapters) {
    for (const SlotDelta& delta : adapter->deltas)
      return {adapter.get(), delta.slot, std::string(adapter_kind_name(delta.kind))};
    for (const SlotFactors& factors : adapter->factors)
      for (const DType dtype : {factors.a.dtype, factors.b.dtype})
        if (!is_weight_dtype(dtype))
          return {adapter.get(), factors.slot, concat("LoRA of ", dtype_name(dtype))};
  }
  return {};
}

TENON_INLINE void check_device_kinds(const AttachPlan& plan, std::string_view operation) {
  const Program& program = plan.session->program();
  if (!plan.writes_weights())
    if (const MergedOnly only = first_merged_only(plan))
      throw error(
          ErrorCode::unsupported,
          concat(operation, ": ", only.text(program),
                 "; attach<merged> it, make LoRA of it with tenon-convert, or open the model on the host"),
          {.file = only.adapter->file.path(), .layer = slot_path(program, only.slot)});
  for (const auto& adapter : plan.adapters)
    for (const SlotBias& bias : adapter->biases) {
      const std::string_view op = op_of_slot(program, bias.slot);
      if (adds_biases_on_device(op)) continue;
      const std::string slot = slot_path(program, bias.slot);
      throw error(ErrorCode::unsupported,
                  concat(operation, ": ", adapter->file.path(), " has a bias at ", slot,
                         ", and a device's step of ", op, " adds none; open the model on the host"),
                  {.file = adapter->file.path(), .layer = slot});
    }
}
#endif

} // namespace tenon

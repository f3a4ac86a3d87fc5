// SPDX-License-Identifier: Apache-2.0
// Stored differences of a weight (LyCORIS's full and norms, ComfyUI's diff) and whole weights that take its place (PEFT's
// modules_to_save).
#pragma once

#include <tenon/adapters/module_binding.hpp>

namespace tenon {

struct DiffBinding : ModuleBinding {
  void bind() {
    const CheckpointTensor* whole = find(Part::whole_weight);
    const CheckpointTensor* const difference =
        find(Part::diff) != nullptr ? find(Part::diff) : find(Part::norm_weight);
    const CheckpointTensor& tensor = difference != nullptr ? *difference : *whole;
    if (!is_whole("a stored difference")) return;
    const auto values = matrix(tensor, target.rows, target.cols, "[out, in]");
    if (!values) return;
    SlotDelta delta{.slot = slot, .kind = AdapterKind::diff};
    delta.term.form = kernels::DeltaForm::plain;
    delta.term.first = {*values, {}};
    if (difference == nullptr) {
      delta.gains = GainSource::replace;
      delta.term.gain_axis = kernels::GainAxis::rows;
    }
    if (find(Part::scalar) != nullptr) delta.scale = scalar_only();
    append(delta, 0, difference != nullptr ? "diff" : "whole weight");
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// IA3: a vector that multiplies a weight's rows or columns. Conventions: PEFT 0.21.2 tuners/ia3/layer.py (a factor, of the
// bias too), LyCORIS 4.1.3 modules/ia3.py (a change).
#pragma once

#include <tenon/adapters/module_binding.hpp>

namespace tenon {

struct Ia3Binding : ModuleBinding {
  void bind() {
    if (!is_whole("IA3")) return;
    const CheckpointTensor* factor = find(Part::ia3_factor);
    SlotDelta delta{.slot = slot, .kind = AdapterKind::ia3};
    bool is_on_input = false;
    if (factor != nullptr) {
      delta.gains = GainSource::factor;
      is_on_input = config != nullptr && config->is_feedforward(module.name);
      if (config == nullptr) is_on_input = factor->view.rank > 1 && factor->view.extent(0) == 1;
    } else {
      factor = need(Part::whole_weight);
      const CheckpointTensor* const on_input = need(Part::ia3_on_input);
      if (factor == nullptr || on_input == nullptr) return;
      delta.gains = GainSource::change;
      is_on_input = number_in(*on_input) != 0;
    }
    const bool is_turned = config != nullptr && config->fan_in_fan_out;
    const bool is_of_columns = is_on_input != is_turned;
    delta.term.gain_axis = is_of_columns ? kernels::GainAxis::cols : kernels::GainAxis::rows;
    delta.columns_per_gain = is_of_columns ? target.positions : 1;
    if (!vector(*factor, is_of_columns ? target.in() : target.rows, is_on_input ? "[in]" : "[out]")) return;
    const bool scales_bias =
        delta.gains == GainSource::factor && !is_on_input; // y is multiplied, its bias too
    delta.vector = flat_vector(factor->view);
    data.deltas.push_back(delta);
    if (scales_bias && target.bias > 0)
      data.biases.push_back({slot, flat_vector(factor->view), 1, kernels::BiasAction::scale_by, 0});
    matched("IA3", 0, 1);
    bind_bias_parts(1);
  }
};

} // namespace tenon

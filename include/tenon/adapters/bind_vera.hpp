// SPDX-License-Identifier: Apache-2.0
// VeRA: two vectors a module over matrices that all modules share. Conventions: PEFT 0.21.2 tuners/vera/layer.py.
#pragma once

#include <tenon/adapters/module_binding.hpp>

#include <cstdint>

namespace tenon {

struct VeraBinding : ModuleBinding {
  /// Delta = (lambda_b * B) (lambda_d * A), with A and B that all modules share, cut to the module's size.
  void bind() {
    if (!is_whole("VeRA")) return;
    const CheckpointTensor* const b_vector = need(Part::vera_lambda_b);
    const CheckpointTensor* const d_vector = need(Part::vera_lambda_d);
    if (b_vector == nullptr || d_vector == nullptr) return;
    const CheckpointTensor* const shared_a = file.vera_a();
    const CheckpointTensor* const shared_b = file.vera_b();
    if (shared_a == nullptr || shared_b == nullptr)
      return add(
          FindingKind::incomplete, module.key(),
          "the file has no base_model.vera_A and vera_B: they were left to a random generator; save the "
          "adapter with save_projection=True");
    const bool is_turned = config != nullptr && config->fan_in_fan_out;
    const std::int64_t out = is_turned ? target.cols : target.rows;
    const std::int64_t in = is_turned ? target.rows : target.cols;
    const std::int64_t own = d_vector->view.size();
    const kernels::WeightMatrix a = flat_matrix(shared_a->view);
    const kernels::WeightMatrix b = flat_matrix(shared_b->view);
    if (!vector(*b_vector, out, "[out]") || !has_factor_dtype(*d_vector) || !has_factor_dtype(*shared_a) ||
        !has_factor_dtype(*shared_b))
      return;
    if (a.rows < own || b.cols < own || a.cols < in || b.rows < out)
      return add(FindingKind::wrong_shape, shared_a->name,
                 concat("expected vera_A of at least ", own, " x ", in, " and vera_B of at least ", out,
                        " x ", own, ", got ", a.rows, " x ", a.cols, " and ", b.rows, " x ", b.cols));
    const kernels::WeightMatrix down = a.block(0, 0, own, in);
    const kernels::WeightMatrix up = b.block(0, 0, out, own);
    const kernels::WeightVector gains = flat_vector(b_vector->view);
    SlotFactors factors{
        .slot = slot, .a = down, .b = up, .rank_gain = prepared.floats_of(flat_vector(d_vector->view))};
    if (is_turned) { // the gains of rows are then those of A's columns
      factors.a = prepared.transposed(prepared.scaled_rows(up, gains));
      factors.b = prepared.transposed(down);
    } else {
      factors.row_gain = prepared.floats_of(gains);
    }
    data.factors.push_back(factors);
    matched("VeRA", own, 1);
    bind_bias_parts(1);
  }
};

} // namespace tenon

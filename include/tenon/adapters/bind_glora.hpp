// SPDX-License-Identifier: Apache-2.0
// GLoRA as LyCORIS has it, in both layouts; PEFT's is bind_peft_glora.hpp. Conventions: LyCORIS 4.1.3
// modules/glora.py.
#pragma once

#include <tenon/adapters/module_binding.hpp>

#include <cstdint>
#include <utility>

namespace tenon {

struct GloraBinding : ModuleBinding {
  /// Delta = b1 b2 + W a1 a2, and in older files b2 b1 + W a2 a1: the shapes tell.
  void bind() {
    if (!is_whole("GLoRA")) return;
    const CheckpointTensor* a1 = need(Part::glora_a1);
    const CheckpointTensor* a2 = need(Part::glora_a2);
    const CheckpointTensor* b1 = need(Part::glora_b1);
    const CheckpointTensor* b2 = need(Part::glora_b2);
    if (a1 == nullptr || a2 == nullptr || b1 == nullptr || b2 == nullptr) return;
    const bool is_old =
        flat_matrix(b1->view).rows != target.rows ||
        (flat_matrix(b2->view).rows == target.rows && flat_matrix(a1->view).rows != target.in());
    if (is_old) {
      std::swap(a1, a2);
      std::swap(b1, b2);
    }
    const std::int64_t own = flat_matrix(b2->view).rows;
    const std::int64_t inner = flat_matrix(a2->view).rows;
    const auto up = matrix(*b1, target.rows, own, "[out, rank]");
    const auto down = matrix(*b2, own, target.cols, "[rank, in]");
    const auto left = matrix(*a1, target.in(), inner, "[in, rank]");
    const auto right = matrix(*a2, inner, target.in(), "[rank, in]");
    if (!up || !down || !left || !right) return;
    SlotDelta delta{.slot = slot, .kind = AdapterKind::glora, .scale = scale_for(own)};
    delta.term.form = kernels::DeltaForm::plain;
    delta.term.first = {*up, *down};
    delta.term.of_weight = {*left, *right};
    delta.term.cols_per_input = target.positions;
    append(delta, own, "GLoRA");
  }
};

} // namespace tenon

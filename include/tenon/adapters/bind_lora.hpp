// SPDX-License-Identifier: Apache-2.0
// LoRA and DoRA: A and B of a linear, a convolution, an embedding or a transposed weight, with a core or without; of one
// projection of several. Conventions: PEFT 0.21.2 tuners/lora/layer.py, LyCORIS 4.1.3 modules/locon.py, kohya sd-scripts
// networks/lora.py and library/lora_utils.py.
#pragma once

#include <tenon/adapters/module_binding.hpp>

#include <cstdint>
#include <optional>

namespace tenon {

struct LoraBinding : ModuleBinding {
  void bind() {
    if (config != nullptr && config->is_dora && need(Part::magnitude) == nullptr) return;
    if (module.has(Part::embedding_a) || module.has(Part::embedding_b))
      return bind_turned_lora(Part::embedding_a, Part::embedding_b);
    if (config != nullptr && config->fan_in_fan_out) return bind_turned_lora(Part::lora_a, Part::lora_b);
    const CheckpointTensor* const a = find(Part::lora_a);
    const CheckpointTensor* const b = find(Part::lora_b);
    if (a == nullptr || b == nullptr) {
      static_cast<void>(a == nullptr ? need(Part::lora_a) : need(Part::lora_b));
      return;
    }
    if (const CheckpointTensor* const mid = find(Part::lora_mid)) return bind_tucker(*a, *b, *mid);
    if (name.share == NameShare::columns) return bind_columns(*a, *b);
    if (widens_input(*a, *b)) return;
    const std::int64_t own = lora_rank(*a);
    const std::optional<kernels::WeightMatrix> down = matrix(*a, own, target.cols, "[rank, in]");
    std::optional<kernels::WeightMatrix> up;
    std::optional<RowShare> share;
    if (name.share == NameShare::part) {
      const std::int64_t rows = flat_matrix(b->view).rows;
      up = matrix(*b, rows, own, "[out, rank]");
      share = share_of(rows, *b);
    } else {
      up = matrix(*b, target.rows, own, "[out, rank]");
      share = RowShare{0, target.rows, 0};
    }
    if (!check_rank(*a, own) || !down || !up || !share) return;
    const double scale = scale_for(own);
    if (const CheckpointTensor* const magnitude = find(Part::magnitude)) {
      const bool is_cut = is_row_magnitude(*magnitude, flat_matrix(b->view).rows) &&
                          name.share == NameShare::part && name.is_fused;
      if (!is_cut && !is_whole("DoRA")) return;
      SlotDelta delta{.slot = slot, .kind = AdapterKind::lora, .scale = scale};
      delta.term.form = kernels::DeltaForm::plain;
      delta.term.first = {up->block(share->file_row, 0, share->rows, own), *down};
      return append(delta, own, "LoRA", is_cut ? share : std::nullopt);
    }
    if (name.share == NameShare::swapped) {
      const std::int64_t half = target.rows / 2;
      data.factors.push_back({slot, *down, up->block(half, 0, half, own), scale, 0});
      data.factors.push_back({slot, *down, up->block(0, 0, half, own), scale, half});
    } else {
      data.factors.push_back(
          {slot, *down, up->block(share->file_row, 0, share->rows, own), scale, share->weight_row});
    }
    matched("LoRA", own, scale);
    bind_bias_parts(scale);
  }

  /// Whether it is for a layer of more inputs, of another net of the family; a finding if so.
  [[nodiscard]] bool widens_input(const CheckpointTensor& a, const CheckpointTensor& b) const {
    const std::int64_t inputs = flat_matrix(a.view).cols;
    if (name.share != NameShare::whole || inputs <= target.cols || flat_matrix(b.view).rows != target.rows)
      return false;
    add(FindingKind::refused_kind, a.name,
        concat("it widens the layer's input from ", target.cols, " to ", inputs,
               " (as FLUX.1's tools do with x_embedder), which is another architecture: load it for a net of "
               "that input"));
    return true;
  }

  /// Of some of the inputs: columns of the file's A, or A with zeros for the inputs that are others'.
  void bind_columns(const CheckpointTensor& a, const CheckpointTensor& b) {
    if (module.has(Part::magnitude)) return static_cast<void>(is_whole("DoRA"));
    const auto [first, size, total] = name.slice;
    const std::int64_t own = lora_rank(a);
    const auto down = matrix(a, own, name.is_fused ? total : size, "[rank, in]");
    const auto up = matrix(b, target.rows, own, "[out, rank]");
    if (!check_rank(a, own) || !down || !up) return;
    const double scale = scale_for(own);
    const kernels::WeightMatrix columns =
        name.is_fused ? down->block(0, first, own, size) : prepared.widened(*down, first, total);
    data.factors.push_back({slot, columns, *up, scale, 0});
    matched("LoRA", own, scale);
    if (!name.is_fused || first == 0) bind_bias_parts(scale); // which is added once
  }

  /// The configuration's, where there is one; else that of A.
  [[nodiscard]] std::int64_t lora_rank(const CheckpointTensor& a) const {
    return config != nullptr && config->type == PeftType::lora ? config->rank_of(module.name)
                                                               : flat_matrix(a.view).rows;
  }
  [[nodiscard]] bool check_rank(const CheckpointTensor& a, std::int64_t own) const {
    if (rank == any_rank || own == rank) return true;
    add(FindingKind::wrong_rank, a.name, concat("expected rank ", rank, " of the adapter's type, got ", own));
    return false;
  }

  /// The model's weight is [in, out], or a table [count, width] whose rows are looked up: the change is (B A)^T =
  /// A^T B^T.
  void bind_turned_lora(Part part_a, Part part_b) {
    const CheckpointTensor* const a = need(part_a);
    const CheckpointTensor* const b = need(part_b);
    if (a == nullptr || b == nullptr || !is_whole("LoRA of a transposed weight")) return;
    const std::int64_t own = lora_rank(*a);
    const auto down = matrix(*a, own, target.rows, "[rank, in]");
    const auto up = matrix(*b, target.cols, own, "[out, rank]");
    if (!check_rank(*a, own) || !down || !up) return;
    const double scale = scale_for(own);
    const kernels::WeightMatrix left = prepared.transposed(*down);
    const kernels::WeightMatrix right = prepared.transposed(*up);
    if (module.has(Part::magnitude)) {
      SlotDelta delta{.slot = slot, .kind = AdapterKind::lora, .scale = scale};
      delta.term.form = kernels::DeltaForm::plain;
      delta.term.first = {left, right};
      return append(delta, own, "LoRA");
    }
    data.factors.push_back({slot, right, left, scale, 0});
    matched("LoRA", own, scale);
    bind_bias_parts(scale);
  }

  /// A convolution's core [rank, rank, kernel] between A [rank, in] and B [out, rank].
  void bind_tucker(const CheckpointTensor& a, const CheckpointTensor& b, const CheckpointTensor& mid) {
    const std::int64_t own = flat_matrix(a.view).rows;
    const auto down = matrix(a, own, target.in(), "[rank, in]");
    const auto up = matrix(b, target.rows, own, "[out, rank]");
    const auto core = matrix(mid, own, own * target.positions, "[rank, rank, kernel]");
    if (!check_rank(a, own) || !down || !up || !core || !is_whole("LoRA with a core")) return;
    SlotDelta delta{.slot = slot, .kind = AdapterKind::lora, .scale = scale_for(own)};
    delta.term.form = kernels::DeltaForm::plain;
    delta.term.first = {*up, prepared.times_core(*core, target.positions, *down)};
    if (module.has(Part::magnitude)) return append(delta, own, "LoRA");
    data.factors.push_back({slot, delta.term.first.right, *up, delta.scale, 0});
    matched("LoRA", own, delta.scale);
    bind_bias_parts(delta.scale);
  }
};

} // namespace tenon

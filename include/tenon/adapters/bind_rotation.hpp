// SPDX-License-Identifier: Apache-2.0
// OFT and BOFT: the tensors that a rotation is prepared from (kernels/prepare_rotation.hpp has the conventions).
#pragma once

#include <tenon/adapters/module_binding.hpp>
#include <tenon/kernels/prepare_rotation.hpp>

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

namespace tenon {

struct RotationBinding : ModuleBinding {
  void bind(AdapterKind kind) {
    const std::string_view kind_name = adapter_kind_name(kind);
    if (!is_whole(kind_name)) return;
    kernels::RotationSource source;
    const CheckpointTensor* blocks = nullptr;
    const CheckpointTensor* rescale = find(Part::rescale);
    const bool is_turned = module.has(Part::oft_embedding_r);
    if ((blocks = find(is_turned ? Part::oft_embedding_r : Part::oft_r)) != nullptr) {
      source.form = kernels::RotationForm::peft_oft;
      source.size = target.cols;
      source.blocks = flat_matrix(blocks->view);
      // b (b - 1) / 2 = elements
      while (source.block * (source.block - 1) / 2 < source.blocks.cols) ++source.block;
      if (config != nullptr) {
        source.coft_eps = config->constrained ? config->constraint : 0;
        source.neumann_terms = static_cast<int>(config->neumann_terms);
      }
    } else if ((blocks = find(Part::boft_r)) != nullptr) {
      if (blocks->view.rank != 4) return wrong_blocks(*blocks, "[stages, blocks, b, b]");
      source.form = kernels::RotationForm::peft_boft;
      source.size = target.cols;
      take_blocks(source, blocks->view, 1);
      rescale = find(Part::boft_s);
    } else {
      blocks = find(Part::oft_blocks) != nullptr ? find(Part::oft_blocks) : find(Part::oft_diag);
      if (blocks == nullptr) {
        static_cast<void>(need(Part::oft_blocks));
        return;
      }
      if (blocks->view.rank != 3 && blocks->view.rank != 4) return wrong_blocks(*blocks, "[blocks, b, b]");
      const bool is_kohya = module.prefix.starts_with("oft_"); // LyCORIS's have kohya's other prefixes
      source.form = kind == AdapterKind::boft ? kernels::RotationForm::lycoris_boft
                    : is_kohya                ? kernels::RotationForm::kohya_oft
                                              : kernels::RotationForm::lycoris_oft;
      source.size = target.rows;
      take_blocks(source, blocks->view, blocks->view.rank == 4 ? 1 : 0);
      if (const CheckpointTensor* const alpha = find(Part::alpha)) source.alpha = number_in(*alpha);
    }
    if (!has_factor_dtype(*blocks)) return;
    if (rescale != nullptr) {
      if (!vector(*rescale, target.rows, "[out]")) return;
      source.rescale = flat_vector(rescale->view);
    }
    try {
      check_rotation(source);
    } catch (const error& problem) {
      return add(FindingKind::wrong_shape, blocks->name, problem.what());
    }
    const std::int64_t floats = kernels::rotation_floats(source);
    data.rotations.push_back(std::make_unique<kernels::Rotation>(
        kernels::prepare_rotation(source, {prepared.floats(floats), static_cast<std::size_t>(floats)})));
    if (is_turned)
      turn_blocks(const_cast<float*>(data.rotations.back()->blocks), source); // NOLINT: just prepared
    SlotDelta delta{.slot = slot, .kind = kind};
    delta.term.rotation = data.rotations.back().get();
    data.deltas.push_back(delta);
    matched(kind_name, source.block, 1);
    bind_bias_parts(1);
  }
  static void take_blocks(kernels::RotationSource& source, const TensorView& view, int stage_axis) {
    source.stages = stage_axis == 1 ? view.extent(0) : 1;
    source.block = view.extent(view.rank - 1);
    const std::int64_t elements = view.extent(view.rank - 2) * source.block;
    source.blocks = {view.data, view.dtype, elements == 0 ? 0 : view.size() / elements, elements, elements};
  }
  /// R to R^T, block by block: right for one stage.
  static void turn_blocks(float* blocks, const kernels::RotationSource& source) {
    const std::int64_t b = source.block;
    for (std::int64_t n = 0; n < source.blocks.rows; ++n, blocks += b * b)
      for (std::int64_t i = 0; i < b; ++i)
        for (std::int64_t j = 0; j < i; ++j) std::swap(blocks[i * b + j], blocks[j * b + i]);
  }
  void wrong_blocks(const CheckpointTensor& blocks, std::string_view expected) const {
    add(FindingKind::wrong_shape, blocks.name,
        concat("expected ", expected, ", got ", shape_text(blocks.view.shape())));
  }
};

} // namespace tenon

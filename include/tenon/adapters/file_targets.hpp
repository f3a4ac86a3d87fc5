// SPDX-License-Identifier: Apache-2.0
// What an adapter's file alone tells of the modules that it changes: enough to read plain LoRA and stored differences
// without a model, in order to resize, combine or rewrite them. Other kinds need the model: their change follows
// from the weight, or their tensors do not say what shape it has.
#pragma once

#include <tenon/adapters/adapter_file.hpp>
#include <tenon/adapters/lora_pair.hpp>
#include <tenon/adapters/prepared.hpp>
#include <tenon/adapters/targets.hpp>
#include <tenon/core/compiled.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

/// How a module's pair is laid out in a file, beside its matrix.
struct ModuleLayout {
  LoraTarget target = LoraTarget::linear;
  std::vector<std::int64_t> kernel{};
  bool is_turned = false; ///< the model's weight is [in, out] (fan_in_fan_out)
};

/// Targets and, for each, its layout.
struct LaidOutTargets {
  AdapterTargets targets;
  std::vector<ModuleLayout> layouts{};
};

[[nodiscard]] inline bool has_bias_part(const AdapterModule& module) noexcept {
  using enum AdapterPart;
  return module.has(lora_bias) || module.has(diff_bias) || module.has(norm_bias) || module.has(whole_bias);
}

/// The components that a file has keys for, in its order; an empty name where it does not say.
[[nodiscard]] inline std::vector<std::string_view> components_of(const AdapterFile& file) {
  std::vector<std::string_view> out;
  for (const AdapterModule& module : file.modules())
    if (std::find(out.begin(), out.end(), module.component) == out.end()) out.push_back(module.component);
  return out;
}

/// The shape that a file gives a module. Throws `error{unsupported}` for a kind that needs the model.
[[nodiscard]] inline std::pair<AdapterTarget, ModuleLayout> shape_in_file(const AdapterFile& file,
                                                                          const AdapterModule& module) {
  using enum AdapterPart;
  AdapterTarget target;
  ModuleLayout layout;
  const std::optional<AdapterKind> kind = kind_of(module);
  if (module.has(magnitude) ||
      (kind && *kind != AdapterKind::lora && *kind != AdapterKind::diff && *kind != AdapterKind::bias))
    throw error(ErrorCode::unsupported,
                concat(module.key(), ": expected LoRA or a stored difference, since no model was given, got ",
                       module.has(magnitude) ? std::string_view("DoRA") : adapter_kind_name(*kind),
                       "; name the model's checkpoint"),
                {.file = file.file().path(), .key = std::string(module.key())});
  const auto matrix = [&](AdapterPart part) {
    const CheckpointTensor* const tensor = module.find(part);
    return tensor == nullptr ? kernels::WeightMatrix{} : flat_matrix(tensor->view);
  };
  const auto take_kernel = [&](AdapterPart part) {
    const CheckpointTensor* const tensor = module.find(part);
    if (tensor == nullptr || tensor->view.rank < 3) return;
    layout.target = LoraTarget::convolution;
    layout.kernel.assign(tensor->view.shape().begin() + 2, tensor->view.shape().end());
    for (const std::int64_t extent : layout.kernel) target.positions *= extent;
  };
  if (module.has(embedding_a) || module.has(embedding_b)) {
    layout.target = LoraTarget::embedding;
    target.rows = matrix(embedding_a).cols;
    target.cols = matrix(embedding_b).rows;
  } else if (kind == AdapterKind::lora) {
    take_kernel(module.has(lora_mid) ? lora_mid : lora_a);
    target.rows = matrix(lora_b).rows;
    target.cols = matrix(lora_a).cols * (module.has(lora_mid) ? target.positions : 1);
    const PeftConfig* const config = file.config(module.component);
    layout.is_turned = config != nullptr && config->fan_in_fan_out;
    if (layout.is_turned) std::swap(target.rows, target.cols);
  } else if (kind == AdapterKind::diff) {
    const AdapterPart part = module.has(diff) ? diff : module.has(norm_weight) ? norm_weight : whole_weight;
    take_kernel(part);
    target.rows = matrix(part).rows;
    target.cols = matrix(part).cols;
    target.is_vector = module.find(part)->view.rank == 1;
  }
  for (const AdapterPart part : {lora_bias, diff_bias, norm_bias, whole_bias})
    if (const CheckpointTensor* const bias = module.find(part)) target.bias = bias->view.size();
  if (target.rows == 0) target.rows = target.bias;
  return {target, std::move(layout)};
}

/// The modules of one component of a file, under the names that the file has for them: flattened ones stay so.
[[nodiscard]] TENON_INLINE LaidOutTargets targets_of(const AdapterFile& file, std::string_view component,
                                                     std::string_view expert = {});

#if TENON_HAS_BODIES
TENON_INLINE LaidOutTargets targets_of(const AdapterFile& file, std::string_view component,
                                       std::string_view expert) {
  std::vector<std::string> names;
  std::vector<AdapterTarget> list;
  std::vector<ModuleLayout> layouts;
  for (const AdapterModule& module : file.modules()) {
    const bool is_other_expert = !expert.empty() && !module.expert.empty() && module.expert != expert;
    if (module.component != component || is_other_expert) continue;
    auto [target, layout] = shape_in_file(file, module);
    names.push_back(module.name);
    list.push_back(target);
    layouts.push_back(std::move(layout));
  }
  return {{NameTable(std::move(names)), std::move(list)}, std::move(layouts)};
}
#endif

/// The modules of a checkpoint, laid out as `file` says where it says: tables and transposed weights are not told
/// apart by their shape.
[[nodiscard]] TENON_INLINE LaidOutTargets targets_of(const Checkpoint& checkpoint, const AdapterFile& file);

#if TENON_HAS_BODIES
TENON_INLINE LaidOutTargets targets_of(const Checkpoint& checkpoint, const AdapterFile& file) {
  LaidOutTargets out{targets_of(checkpoint)};
  out.layouts.resize(out.targets.list.size());
  for (std::size_t i = 0; i < out.layouts.size(); ++i) {
    const std::span<const std::int64_t> shape = out.targets.list[i].weight->view.shape();
    if (shape.size() < 3) continue;
    out.layouts[i].target = LoraTarget::convolution;
    out.layouts[i].kernel.assign(shape.begin() + 2, shape.end());
  }
  for (const AdapterModule& module : file.modules()) {
    const PeftConfig* const config = file.config(module.component);
    const bool is_turned = config != nullptr && config->fan_in_fan_out;
    const bool is_table = module.has(AdapterPart::embedding_a);
    if (!is_turned && !is_table) continue;
    for (const NamedModule& named : out.targets.names.find(module.name)) {
      ModuleLayout& layout = out.layouts[static_cast<std::size_t>(named.module)];
      if (is_table) layout.target = LoraTarget::embedding;
      layout.is_turned = is_turned && !is_table;
    }
  }
  return out;
}
#endif

} // namespace tenon

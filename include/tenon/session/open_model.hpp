// SPDX-License-Identifier: Apache-2.0
// Opening a model below its type: a checkpoint is mapped, each weight that the program names is found in it and checked,
// and copied where the model is to own its weights.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/nearest.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/session/model.hpp>
#include <tenon/session/own_weights.hpp>
#include <tenon/session/residency.hpp>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

/// Finds the program's weights in the checkpoint, and the names there that it does not use. Throws one
/// `load_error` that lists every weight which is missing, has another shape, or an element type that `wanted`
/// (or computing at all) does not allow.
inline void bind_weights(const Program& program, std::string_view prefix, WeightsDType wanted,
                         const Checkpoint& checkpoint, std::vector<TensorView>& weights,
                         std::vector<std::string_view>& unused_names) {
  std::vector<bool> used(checkpoint.tensors().size(), false);
  weights.resize(static_cast<std::size_t>(program.weight_count));
  std::string faults;
  std::int64_t fault_count = 0;
  std::optional<ErrorCode> first;
  const auto fault = [&](ErrorCode code, std::string_view name, std::string_view what) {
    if (!first) first = code;
    if (++fault_count <= 20) faults += concat("\n  ", name, ": ", what);
  };
  for (const WeightEntry& entry : program.weights) {
    for (std::int32_t copy = 0; copy < entry.copies; ++copy) {
      const std::string name = concat(prefix, expanded_path(program, entry.path, entry.loop, copy));
      const CheckpointTensor* tensor = checkpoint.find(name);
      if (tensor == nullptr) {
        NearestName nearest(name);
        for (const CheckpointTensor& other : checkpoint.tensors()) nearest.offer(other.name);
        fault(ErrorCode::missing_key, name,
              concat("expected ", shape_text(entry.shape()), ", found no such tensor",
                     nearest.best().empty() ? "" : concat("; the nearest is ", nearest.best())));
        continue;
      }
      used[static_cast<std::size_t>(tensor - checkpoint.tensors().data())] = true;
      const DType dtype = tensor->view.dtype;
      if (!tensor->view.has_shape(entry.shape()))
        fault(ErrorCode::wrong_shape, name,
              concat("expected ", shape_text(entry.shape()), ", got ", tensor->view.text()));
      else if (!is_weight_dtype(dtype) || (!wanted.any && dtype != wanted.dtype))
        fault(ErrorCode::wrong_dtype, name,
              concat("expected ", wanted.any ? "F32, F16 or BF16" : dtype_name(wanted.dtype), ", got ",
                     dtype_name(dtype)));
      weights[static_cast<std::size_t>(entry.base + copy)] = tensor->view;
    }
  }
  if (first)
    throw load_error(*first,
                     concat(checkpoint.path(), ": ", fault_count, " of ", program.weight_count,
                            " weights do not fit the net", faults, fault_count > 20 ? "\n  ..." : ""),
                     {.file = checkpoint.path()});
  for (std::size_t i = 0; i < used.size(); ++i)
    if (!used[i]) unused_names.push_back(checkpoint.tensors()[i].name);
}

/// The weights, and all that sessions take, into the device's memory.
inline void move_to_device(ModelData& model, const std::shared_ptr<Device>& target, std::int64_t budget) {
  model.device = target;
  model.memory = &model.ledger->on_device(target->memory(), target->name());
  if (budget >= 0) model.memory->set_budget(budget);
  const std::unique_ptr<DeviceLane> lane = target->make_lane(*model.ledger);
  model.own = own_weights(model.weights, *model.memory, lane.get());
  model.residency = std::make_unique<Residency>(*target, *model.ledger, *model.memory);
}

TENON_INLINE std::shared_ptr<const ModelData> open_model(const Program& program, const std::string& path,
                                                         const Config& config, const OpenOptions& options,
                                                         const std::shared_ptr<Device>& target) {
  static_cast<void>(kernels::vector_kernels()); // an impossible wish is refused here, not in a pass
  std::unique_ptr<Ledger> own;
  Ledger* ledger = options.ledger;
  const bool has_budget = config.budget >= 0 || config.device_budget >= 0;
  if (ledger != nullptr && has_budget)
    throw error(
        ErrorCode::bad_argument,
        "open: expected either a ledger or a configuration with a budget, got both; set the ledger's budget");
  if (has_budget) {
    own = std::make_unique<Ledger>();
    own->set_budget(config.budget);
    ledger = own.get();
  }
  if (ledger == nullptr) ledger = &process_ledger();
  if (config.memory == device && target == nullptr)
    throw error(ErrorCode::device_failed, "open: expected a device for .memory = tn::device, got none");
  const bool owns_weights = options.own_weights || target != nullptr;
  if (!owns_weights && !options.restore_from.empty())
    throw error(ErrorCode::bad_argument,
                "open: restore_from is where own weights are restored from; set own_weights too");
  auto model = std::make_shared<ModelData>(std::move(own), ledger,
                                           Checkpoint::open(path, *ledger, Category::base_mapped));
  bind_weights(program, options.prefix, config.weights, model->checkpoint, model->weights,
               model->unused_names);
  model->sources = model->weights;
  model->memory = ledger;
  if (!options.restore_from.empty()) {
    std::vector<std::string_view> unused;
    model->other_source = Checkpoint::open(options.restore_from, *ledger, Category::base_mapped);
    bind_weights(program, options.prefix, config.weights, *model->other_source, model->sources, unused);
    check_copies(model->weights, model->sources, options.restore_from);
  }
  if (target != nullptr)
    move_to_device(*model, target, config.device_budget);
  else if (owns_weights)
    model->own = own_weights(model->weights, *ledger, nullptr);
  return model;
}

} // namespace tenon

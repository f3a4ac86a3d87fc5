// SPDX-License-Identifier: Apache-2.0
// Model<Net>: a checkpoint opened as a net. open<Net>(path) maps the file and checks every name, shape and
// dtype that the net asks for, reporting all faults together. Weights are views of the mapping, which are
// never written; or, if the model is to own them, of a copy, which one session at a time may merge into.
// Threads: may be shared; a copy of a Model is another handle to the same data.
#pragma once

#include <tenon/core/nearest.hpp>
#include <tenon/graph/lower.hpp>
#include <tenon/graph/tables.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/session/config.hpp>
#include <tenon/session/model_use.hpp>
#include <tenon/session/own_weights.hpp>
#include <tenon/weights/checkpoint.hpp>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace tenon {

struct OpenOptions {
  std::string prefix{};     ///< stands before each of the net's names in the checkpoint, as "bert."
  Ledger* ledger = nullptr; ///< where the bytes are entered; the process's if null
  /// Copies the weights into memory of the model's own, as `attach<in_place>` needs it.
  bool own_weights = false;
  /// For own weights: another file with the same weights, from which they are restored; the opened one if
  /// empty.
  std::string restore_from{};
};

/// What a model holds, below its type.
struct ModelData {
  std::unique_ptr<Ledger> own_ledger{}; ///< of a model whose configuration has a budget
  Ledger* ledger = nullptr;
  Checkpoint checkpoint;
  std::vector<TensorView> weights{};            ///< by the program's numbering, loops expanded
  std::vector<std::string_view> unused_names{}; ///< tensors of the checkpoint that the net does not name
  Buffer own{};                                 ///< what the weights are views of, if not of the mapping
  std::optional<Checkpoint> other_source{};     ///< `OpenOptions::restore_from`
  std::vector<TensorView> sources{};            ///< pristine: the weights, or what they were copied from
  mutable ModelUse use{};

  [[nodiscard]] bool owns_weights() const noexcept { return own.bytes() > 0; }
  /// Throws `error{io}` if a file was written since it was opened.
  void check_unchanged() const {
    checkpoint.check_unchanged();
    if (other_source) other_source->check_unchanged();
  }
};

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

[[nodiscard]] inline std::shared_ptr<const ModelData> open_model(const Program& program,
                                                                 const std::string& path,
                                                                 const Config& config,
                                                                 const OpenOptions& options) {
  static_cast<void>(kernels::vector_kernels()); // an impossible wish is refused here, not in a pass
  std::unique_ptr<Ledger> own;
  Ledger* ledger = options.ledger;
  if (ledger != nullptr && config.budget >= 0)
    throw error(
        ErrorCode::bad_argument,
        "open: expected either a ledger or a configuration with a budget, got both; set the ledger's budget");
  if (config.budget >= 0) {
    own = std::make_unique<Ledger>();
    own->set_budget(config.budget);
    ledger = own.get();
  }
  if (ledger == nullptr) ledger = &process_ledger();
  if (!options.own_weights && !options.restore_from.empty())
    throw error(ErrorCode::bad_argument,
                "open: restore_from is where own weights are restored from; set own_weights too");
  auto model = std::make_shared<ModelData>(std::move(own), ledger,
                                           Checkpoint::open(path, *ledger, Category::base_mapped));
  bind_weights(program, options.prefix, config.weights, model->checkpoint, model->weights,
               model->unused_names);
  model->sources = model->weights;
  if (options.own_weights) {
    model->own = own_weights(model->weights, *ledger);
    if (!options.restore_from.empty()) {
      std::vector<std::string_view> unused;
      model->other_source = Checkpoint::open(options.restore_from, *ledger, Category::base_mapped);
      bind_weights(program, options.prefix, config.weights, *model->other_source, model->sources, unused);
      check_copies(model->weights, model->sources, options.restore_from);
    }
  }
  return model;
}

template <class Net, Config C = Config{}>
class Model : ConfigMandates<C> {
 public:
  using net = Net;
  static constexpr Config config = C;

  /// Use `open<Net>(path)`.
  explicit Model(std::shared_ptr<const ModelData> data) noexcept : data_(std::move(data)) {}

  [[nodiscard]] Ledger& ledger() const noexcept { return *data_->ledger; }
  /// Weights by the net's numbering (see `weights<Net>`), loops expanded; views of the mapping, or of the
  /// model's own memory.
  [[nodiscard]] std::span<const TensorView> weights() const noexcept { return data_->weights; }
  /// Tensors of the checkpoint that the net does not use.
  [[nodiscard]] std::span<const std::string_view> unused_names() const noexcept {
    return data_->unused_names;
  }
  [[nodiscard]] const Checkpoint& checkpoint() const noexcept { return data_->checkpoint; }
  [[nodiscard]] const std::shared_ptr<const ModelData>& data() const noexcept { return data_; }

 private:
  std::shared_ptr<const ModelData> data_;
};

/// Maps `path` (a .safetensors file, an index of shards, or a folder with either) as a model of type `Net`.
/// Throws `load_error`, naming every weight that does not fit; for own weights `budget_error` and
/// `error{out_of_memory}`; nothing is held then.
template <class Net, Config C = Config{}>
[[nodiscard]] Model<Net, C> open(const std::string& path, const OpenOptions& options = {}) {
  return Model<Net, C>(open_model(program_of<Net>(), path, C, options));
}

} // namespace tenon

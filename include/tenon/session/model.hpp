// SPDX-License-Identifier: Apache-2.0
// Model<Net>: a checkpoint opened as a net. open<Net>(path) maps the file and checks every name, shape and
// dtype that the net asks for, reporting all faults together. Weights are views of the mapping, which are
// never written; or, if the model is to own them, of a copy, which one session at a time may merge into.
// Threads: may be shared; a copy of a Model is another handle to the same data.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/graph/lower.hpp>
#include <tenon/graph/tables.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/session/config.hpp>
#include <tenon/session/device.hpp>
#include <tenon/session/device_mandates.hpp>
#include <tenon/session/model_use.hpp>
#include <tenon/weights/checkpoint.hpp>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace tenon {

class Residency; // session/residency.hpp

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
  std::shared_ptr<Device> device{};             ///< null: the model is the host's
  std::vector<TensorView> weights{};            ///< by the program's numbering, loops expanded
  std::vector<std::string_view> unused_names{}; ///< tensors of the checkpoint that the net does not name
  Buffer own{};                                 ///< what the weights are views of, if not of the mapping
  std::optional<Checkpoint> other_source{};     ///< `OpenOptions::restore_from`
  std::vector<TensorView> sources{};            ///< pristine: the weights, or what they were copied from
  Ledger* memory =
      nullptr; ///< where weights, overlays and activations are entered: the device's, or `ledger`
  std::unique_ptr<Residency> residency{}; ///< of a model on a device
  mutable ModelUse use{};

  [[nodiscard]] bool owns_weights() const noexcept { return own.bytes() > 0; }
  /// Throws `error{io}` if a file was written since it was opened.
  void check_unchanged() const {
    checkpoint.check_unchanged();
    if (other_source) other_source->check_unchanged();
  }
};

/// `open` below its types. Throws as it does.
[[nodiscard]] TENON_INLINE std::shared_ptr<const ModelData>
open_model(const Program& program, const std::string& path, const Config& config, const OpenOptions& options,
           const std::shared_ptr<Device>& target);

/// Opens the device of a configuration: the machine's first; <tenon/gpu.hpp> has the one for `tn::device`.
template <MemorySpace Space>
struct DefaultDevice {
  static_assert(Space == MemorySpace::host,
                "tenon::Config: .memory = tn::device needs #include <tenon/gpu.hpp>");
  [[nodiscard]] static std::shared_ptr<Device> open() { return nullptr; }
};

template <class Net, Config C = Config{}>
class Model : ConfigMandates<C> {
 public:
  using net = Net;
  static constexpr Config config = C;

  /// Use `open<Net>(path)`.
  explicit Model(std::shared_ptr<const ModelData> data) noexcept : data_(std::move(data)) {}

  [[nodiscard]] Ledger& ledger() const noexcept { return *data_->ledger; }
  /// Of the device's memory; `ledger()` for a model of the host.
  [[nodiscard]] Ledger& device_ledger() const noexcept { return *data_->memory; }
  /// Weights by the net's numbering (see `weights<Net>`), loops expanded; views of the mapping, or of the
  /// model's own memory, which may be a device's.
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
/// `error{out_of_memory}`; nothing is held then. With `.memory = tn::device` the weights are copied to the machine's
/// first device; throws `error{device_failed}` where there is none.
template <class Net, Config C = Config{}>
[[nodiscard]] Model<Net, C> open(const std::string& path, const OpenOptions& options = {}) {
  if constexpr (C.memory == device) static_cast<void>(sizeof(DeviceMandates<Net>));
  return Model<Net, C>(open_model(program_of<Net>(), path, C, options, DefaultDevice<C.memory>::open()));
}
/// The same on the device given, which may have ops of its own: what it has not is refused when a session is made.
template <class Net, Config C>
  requires(C.memory == device)
[[nodiscard]] Model<Net, C> open(const std::string& path, const std::shared_ptr<Device>& target,
                                 const OpenOptions& options = {}) {
  return Model<Net, C>(open_model(program_of<Net>(), path, C, options, target));
}

} // namespace tenon

#if TENON_HAS_BODIES
#include <tenon/session/open_model.hpp>
#endif

// SPDX-License-Identifier: Apache-2.0
// load_adapter<Net>(path): maps a PEFT adapter and finds the slot for each of its tensors. The net's own
// names are the table that is looked up; nothing is guessed from substrings. Everything that does not fit is
// found before anything is attached and reported together. Cost: O(tensors log slots); the values stay in the
// mapping.
#pragma once

#include <tenon/adapters/adapter.hpp>
#include <tenon/core/nearest.hpp>
#include <tenon/formats/peft_config.hpp>
#include <tenon/formats/peft_keys.hpp>
#include <tenon/graph/lower.hpp>
#include <tenon/graph/tables.hpp>

#include <memory>
#include <optional>
#include <vector>

namespace tenon {

/// What to do with an adapter that does not fit in full.
enum class OnMismatch : std::uint8_t {
  refuse, ///< throw `load_error{bad_adapter}` with the whole report
  report, ///< load what fits; the rest stands in `Adapter::report()`
};

struct LoadOptions {
  OnMismatch on_mismatch = OnMismatch::refuse;
  Ledger* ledger = nullptr; ///< where the mapping is entered; the process's if null
};

/// The tensors found for one slot.
struct FoundPair {
  const CheckpointTensor* a = nullptr;
  const CheckpointTensor* b = nullptr;
};

/// Reads one adapter for one net; a step of its work per member function.
class AdapterReader {
 public:
  AdapterReader(const Program& program, std::int64_t rank)
      : program_(program), rank_(rank), pairs_(static_cast<std::size_t>(program.slot_count)) {}

  [[nodiscard]] std::shared_ptr<const AdapterData> read(const std::string& path, const LoadOptions& options) {
    Ledger& ledger = options.ledger != nullptr ? *options.ledger : process_ledger();
    const std::string weights =
        file_kind(path) == FileKind::folder ? concat(path, "/adapter_model.safetensors") : path;
    const std::string config_path = concat(folder_of(weights), "adapter_config.json");
    const MappedFile config_file(config_path, ledger, Category::adapter);
    const std::span<const std::byte> text = config_file.bytes();
    config_ = parse_peft_config({reinterpret_cast<const char*>(text.data()), text.size()}, config_path);

    auto data =
        std::make_shared<AdapterData>(AdapterData{Checkpoint::open(weights, ledger, Category::adapter)});
    report_ = &data->report;
    report_->file = weights;
    report_->dialect = "PEFT";
    for (const std::string& setting : config_->unsupported)
      add(FindingKind::unsupported, config_path, concat(setting, ", which Tenon does not apply"));
    for (const CheckpointTensor& tensor : data->file.tensors()) sort_in(tensor);
    for (std::int32_t slot = 0; slot < program_.slot_count; ++slot)
      if (const FoundPair& pair = pairs_[static_cast<std::size_t>(slot)];
          pair.a != nullptr || pair.b != nullptr)
        match(slot, pair, data->factors);
    if (options.on_mismatch == OnMismatch::refuse && !report_->fits())
      throw load_error(ErrorCode::bad_adapter, report_->text(), {.file = weights});
    return data;
  }

 private:
  void add(FindingKind kind, std::string_view key, std::string what) {
    report_->findings.push_back({kind, std::string(key), std::move(what)});
  }

  /// Finds the slot that a tensor's module names.
  void sort_in(const CheckpointTensor& tensor) {
    const std::optional<AdapterKey> key = parse_peft_key(tensor.name);
    if (!key)
      return add(FindingKind::unmatched_key, tensor.name,
                 concat("expected a name that begins with ", peft_prefix));
    if (key->part != AdapterPart::lora_a && key->part != AdapterPart::lora_b)
      return add(FindingKind::refused_kind, tensor.name,
                 concat(adapter_part_name(key->part), " is not supported"));
    const std::int32_t slot = find_slot(program_, key->module);
    if (slot < 0) return add(FindingKind::unmatched_key, tensor.name, nearest_slot(key->module));
    FoundPair& pair = pairs_[static_cast<std::size_t>(slot)];
    const CheckpointTensor*& place = key->part == AdapterPart::lora_a ? pair.a : pair.b;
    if (place != nullptr)
      return add(FindingKind::duplicate, tensor.name, concat("its slot already has ", place->name));
    place = &tensor;
  }

  [[nodiscard]] std::string nearest_slot(std::string_view module) const {
    std::vector<std::string> paths;
    for (std::int32_t i = 0; i < program_.slot_count; ++i) paths.push_back(slot_path(program_, i));
    const std::string_view nearest = nearest_name(module, paths);
    return concat("the net has no slot ", module, nearest.empty() ? "" : "; the nearest is ", nearest);
  }

  [[nodiscard]] const SlotEntry& entry_of(std::int32_t slot) const {
    for (const SlotEntry& entry : program_.slots)
      if (slot >= entry.base && slot < entry.base + entry.copies) return entry;
    return program_.slots.front();
  }

  /// Checks a slot's pair and, if it fits, appends its factors.
  void match(std::int32_t slot, const FoundPair& pair, std::vector<SlotFactors>& factors) {
    const std::string path = slot_path(program_, slot);
    if (pair.a == nullptr || pair.b == nullptr) {
      const CheckpointTensor& have = pair.a != nullptr ? *pair.a : *pair.b;
      return add(FindingKind::incomplete, have.name,
                 concat("its partner ", pair.a != nullptr ? "lora_B" : "lora_A", " is missing"));
    }
    const std::size_t before = report_->findings.size();
    const SlotEntry& entry = entry_of(slot);
    if (!slot_accepts(entry.kinds, AdapterKind::lora))
      add(FindingKind::refused_kind, pair.a->name, concat("the slot accepts ", slot_kinds_text(entry.kinds)));
    const std::int64_t rank = config_->rank_of(path);
    check_factor(*pair.a, {rank, entry.in}, "[rank, in]");
    check_factor(*pair.b, {entry.out, rank}, "[out, rank]");
    if (rank_ != any_rank && rank != rank_)
      add(FindingKind::wrong_rank, pair.a->name,
          concat("expected rank ", rank_, " of the adapter's type, got ", rank));
    if (report_->findings.size() != before) return;
    factors.push_back(
        {slot, weight_matrix(pair.a->view), weight_matrix(pair.b->view), config_->scale_of(path)});
    report_->matched.push_back({path, rank, config_->scale_of(path)});
  }

  void check_factor(const CheckpointTensor& tensor, std::array<std::int64_t, 2> expected,
                    std::string_view dims) {
    if (!is_weight_dtype(tensor.view.dtype))
      add(FindingKind::wrong_dtype, tensor.name,
          concat("expected F32, F16 or BF16, got ", dtype_name(tensor.view.dtype)));
    if (!tensor.view.has_shape(expected))
      add(FindingKind::wrong_shape, tensor.name,
          concat("expected ", shape_text(expected), " ", dims, ", got ", shape_text(tensor.view.shape())));
  }

  const Program& program_;
  std::int64_t rank_;
  std::vector<FoundPair> pairs_; ///< by slot
  std::optional<PeftConfig> config_{};
  AdapterReport* report_ = nullptr;
};

/// Reads the PEFT adapter at `path` (its folder, or its adapter_model.safetensors with adapter_config.json
/// beside it) for `Net`. Throws `load_error`: an unreadable file, or, unless told to report only, a file that
/// does not fit in full.
template <class Net, class Kind = Lora>
[[nodiscard]] Adapter<Net, Kind> load_adapter(const std::string& path, const LoadOptions& options = {}) {
  return Adapter<Net, Kind>(AdapterReader(program_of<Net>(), Kind::rank).read(path, options));
}

} // namespace tenon

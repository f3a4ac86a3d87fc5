// SPDX-License-Identifier: Apache-2.0
// An adapter file as it lies: mapped, its dialect recognised, its keys sorted by module. No model is needed;
// which slot or weight a module is comes later (bind.hpp). Cost: O(tensors); values stay in the mapping.
#pragma once

#include <tenon/adapters/adapter_module.hpp>
#include <tenon/adapters/report.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/core/sort_by.hpp>
#include <tenon/formats/dialects.hpp>
#include <tenon/formats/peft_config.hpp>
#include <tenon/weights/checkpoint.hpp>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

struct AdapterFileOptions {
  std::string_view dialect{};      ///< a name of `dialect_table`; empty: recognised from the keys
  std::string_view adapter_name{}; ///< of a file with several (`.lora_A.<name>.weight`); empty: it has one
  Ledger* ledger = nullptr;        ///< where the mapping is entered; the process's if null
};

/// Movable; views stay good.
class AdapterFile {
 public:
  /// `path`: a safetensors file, or a folder with adapter_model.safetensors or
  /// pytorch_lora_weights.safetensors. Throws `load_error` for a file that cannot be read, `error{bad_argument}`
  /// for an unknown dialect. Keys that no dialect explains are findings.
  [[nodiscard]] static TENON_INLINE AdapterFile open(const std::string& path,
                                                     const AdapterFileOptions& options = {});

  [[nodiscard]] const Checkpoint& file() const noexcept { return file_; }
  [[nodiscard]] Checkpoint take_file() noexcept { return std::move(file_); }
  [[nodiscard]] const Dialect& dialect() const noexcept { return *dialect_; }
  [[nodiscard]] bool is_flattened() const noexcept { return dialect_->style == NameStyle::flattened; }
  [[nodiscard]] std::span<const AdapterModule> modules() const noexcept { return modules_; }
  /// Keys that do not fit their file: unknown, double, of several adapters.
  [[nodiscard]] const std::vector<Finding>& findings() const noexcept { return findings_; }
  /// VeRA's shared matrices, if the file has them.
  [[nodiscard]] const CheckpointTensor* vera_a() const noexcept { return vera_a_; }
  [[nodiscard]] const CheckpointTensor* vera_b() const noexcept { return vera_b_; }

  /// The configuration for a component, or nullptr where the file has none.
  [[nodiscard]] const PeftConfig* config(std::string_view component) const noexcept {
    for (const auto& [prefix, config] : configs_)
      if (prefix.empty() || component_of(prefix) == component) return &config;
    return nullptr;
  }
  /// Where a configuration's settings are from, for messages.
  [[nodiscard]] const std::string& config_path() const noexcept { return config_path_; }
  /// A line of the first file's `__metadata__`, or nullptr.
  [[nodiscard]] const std::string* metadata(std::string_view key) const noexcept {
    return file_.files().empty() ? nullptr : file_.files().front().header().metadata_value(key);
  }

 private:
  explicit AdapterFile(Checkpoint file) : file_(std::move(file)) {}

  [[nodiscard]] static std::string weights_path(const std::string& path) {
    if (file_kind(path) != FileKind::folder) return path;
    for (const std::string_view name : {"adapter_model.safetensors", "pytorch_lora_weights.safetensors"})
      if (std::string candidate = concat(path, path.ends_with('/') ? "" : "/", name);
          file_kind(candidate) == FileKind::file)
        return candidate;
    throw load_error(ErrorCode::io,
                     concat(path, ": expected a folder with adapter_model.safetensors or "
                                  "pytorch_lora_weights.safetensors, got neither; name the file itself"),
                     {.file = path});
  }

  [[nodiscard]] static std::string_view component_of(std::string_view prefix) noexcept {
    for (const KeyPrefix& known : diffusers_prefixes)
      if (known.text.substr(0, known.text.size() - 1) == prefix) return known.component;
    return prefix;
  }

  void choose_dialect(std::string_view wanted) {
    if (!wanted.empty()) {
      dialect_ = find_dialect(wanted);
      if (dialect_ != nullptr) return;
      std::string names;
      for (const Dialect& dialect : dialect_table) names += concat(names.empty() ? "" : ", ", dialect.name);
      throw error(ErrorCode::bad_argument,
                  concat("load_adapter: expected a dialect among ", names, ", got ", wanted));
    }
    // the last one, without prefixes, would explain almost any key: only where no other explains one
    std::size_t most = 0;
    dialect_ = &dialect_table.back();
    for (const Dialect& dialect : std::span(dialect_table).first(dialect_table.size() - 1)) {
      std::size_t known = 0;
      for (const CheckpointTensor& tensor : file_.tensors())
        known += parse_key(dialect, tensor.name).has_value() ? 1 : 0;
      if (known <= most) continue;
      most = known;
      dialect_ = &dialect;
      if (known == file_.tensors().size()) return;
    }
  }

  /// A key with the tensor it is of; `id` is the same for all keys of a module.
  struct ParsedKey {
    std::string id{};
    AdapterKey key{};
    const CheckpointTensor* tensor = nullptr;
  };

  void sort_keys(std::string_view wanted_name) {
    std::vector<ParsedKey> keys;
    std::string_view name = wanted_name;
    bool has_name = !wanted_name.empty();
    bool found_name = false;
    std::vector<std::string_view> other_names; // of adapters that were not asked for
    for (const CheckpointTensor& tensor : file_.tensors()) {
      std::optional<AdapterKey> key = parse_key(*dialect_, tensor.name);
      if (!key) {
        add(FindingKind::unmatched_key, tensor.name, what_was_expected());
        continue;
      }
      if (key->part == AdapterPart::vera_a || key->part == AdapterPart::vera_b) {
        (key->part == AdapterPart::vera_a ? vera_a_ : vera_b_) = &tensor;
        continue;
      }
      if (!key->adapter_name.empty() && key->adapter_name != name) {
        if (!wanted_name.empty()) { // another adapter of the same file
          bool is_known = false;
          for (const std::string_view other : other_names) is_known = is_known || other == key->adapter_name;
          if (!is_known) other_names.push_back(key->adapter_name);
          continue;
        }
        if (has_name) {
          add(FindingKind::duplicate, tensor.name,
              concat("the file has several adapters, ", name, " and ", key->adapter_name,
                     "; choose one by its name"));
          continue;
        }
        name = key->adapter_name;
        has_name = true;
      }
      found_name = found_name || !key->adapter_name.empty();
      std::string id = concat(key->component, "|", key->expert, "|", key->module);
      keys.push_back({std::move(id), std::move(*key), &tensor});
    }
    sort_by(keys, [](const ParsedKey& a, const ParsedKey& b) {
      return a.id != b.id ? a.id < b.id : a.tensor < b.tensor; // within a module as in the list of tensors
    });
    for (std::size_t i = 0; i < keys.size(); ++i) {
      AdapterKey& key = keys[i].key;
      const CheckpointTensor& tensor = *keys[i].tensor;
      if (i == 0 || keys[i].id != keys[i - 1].id)
        modules_.push_back({.name = std::move(key.module),
                            .prefix = key.prefix,
                            .component = key.component,
                            .expert = key.expert});
      AdapterModule& module = modules_.back();
      if (const CheckpointTensor* const before = module.find(key.part))
        add(FindingKind::duplicate, tensor.name, concat("its slot already has ", before->name));
      else
        module.parts.push_back({key.part, &tensor});
    }
    if (!found_name && !other_names.empty()) {
      std::string names;
      for (const std::string_view other : other_names) names += concat(names.empty() ? "" : " or ", other);
      add(FindingKind::unmatched_key, wanted_name,
          concat("expected the name of an adapter of this file, ", names));
    }
  }

  [[nodiscard]] std::string what_was_expected() const {
    std::string prefixes;
    for (const KeyPrefix& prefix : dialect_->prefixes)
      if (!prefix.text.empty()) prefixes += concat(prefixes.empty() ? "" : ", ", prefix.text);
    if (prefixes.empty()) return "expected a module's path and an ending such as .lora_A.weight";
    return concat("expected a name that begins with ", prefixes, ", and an ending such as .lora_A.weight");
  }

  void read_configs(Ledger& ledger) {
    const std::string& weights = file_.path();
    if (const std::string* const text = metadata("lora_adapter_metadata")) {
      config_path_ = concat(weights, ": lora_adapter_metadata");
      configs_ = parse_component_configs(*text, config_path_);
      return;
    }
    if (dialect_->prefixes.data() != peft_prefixes.data()) return;
    config_path_ = concat(folder_of(weights), "adapter_config.json");
    const MappedFile file(config_path_, ledger, Category::adapter);
    const std::span<const std::byte> text = file.bytes();
    configs_.push_back(
        {"", parse_peft_config({reinterpret_cast<const char*>(text.data()), text.size()}, config_path_)});
  }

  void add(FindingKind kind, std::string_view key, std::string what) {
    findings_.push_back({kind, std::string(key), std::move(what)});
  }

  Checkpoint file_;
  const Dialect* dialect_ = nullptr;
  std::vector<ComponentConfig> configs_{};
  std::string config_path_{};
  std::vector<AdapterModule> modules_{};
  std::vector<Finding> findings_{};
  const CheckpointTensor* vera_a_ = nullptr;
  const CheckpointTensor* vera_b_ = nullptr;
};

#if TENON_HAS_BODIES
TENON_INLINE AdapterFile AdapterFile::open(const std::string& path, const AdapterFileOptions& options) {
  Ledger& ledger = options.ledger != nullptr ? *options.ledger : process_ledger();
  AdapterFile out(Checkpoint::open(weights_path(path), ledger, Category::adapter));
  out.choose_dialect(options.dialect);
  out.sort_keys(options.adapter_name);
  out.read_configs(ledger);
  return out;
}
#endif

} // namespace tenon

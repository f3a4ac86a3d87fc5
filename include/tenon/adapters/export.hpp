// SPDX-License-Identifier: Apache-2.0
// Sets of plain LoRA written as the tools' own files: PEFT (adapter_model.safetensors and adapter_config.json), kohya
// (flattened names, .alpha, ss_* metadata) and diffusers (component prefixes, the configuration in the header). Each
// value is rounded once, to the dtype asked for. What a format has no place for is refused, not dropped.
// Cost: the file's bytes, as floats and encoded. One thread.
#pragma once

#include <tenon/adapters/encoded_tensors.hpp>
#include <tenon/adapters/export_config.hpp>
#include <tenon/adapters/lora_pair.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/weights/temporary_file.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

struct ExportOptions {
  DType dtype = DType::f32;
  ExportConfig config{}; ///< PEFT and diffusers; kohya has no rank-stabilised scale of its own
  std::string prefix{};  ///< instead of the component's own: "lora_te2", "text_encoder_2"
  std::vector<MetadataPair>
      metadata{};           ///< of the safetensors header, beside what the format itself puts there
  Ledger* ledger = nullptr; ///< where the encoded tensors are entered; the process's if null
};

/// A component of a pipeline under the names of the formats.
struct ComponentNames {
  std::string_view component;
  std::string_view kohya;     ///< networks/lora.py, lora_flux.py
  std::string_view diffusers; ///< loaders/lora_pipeline.py
};

inline constexpr std::array<ComponentNames, 7> component_names{
    {{"", "lora_unet", "transformer"},
     {"denoiser", "lora_unet", "transformer"},
     {"unet", "lora_unet", "unet"},
     {"transformer", "lora_unet", "transformer"},
     {"text_encoder", "lora_te1", "text_encoder"},
     {"text_encoder_2", "lora_te2", "text_encoder_2"},
     {"text_encoder_3", "lora_te3", "text_encoder_3"}}};

/// Throws `error{bad_argument}` for a component without a name in the formats: then `ExportOptions::prefix` must say one.
[[nodiscard]] inline const ComponentNames& names_of(std::string_view component) {
  for (const ComponentNames& names : component_names)
    if (names.component == component) return names;
  std::string known;
  for (const ComponentNames& names : component_names)
    if (!names.component.empty()) known += concat(known.empty() ? "" : ", ", names.component);
  throw error(ErrorCode::bad_argument, concat("component ", component, ": expected one of ", known,
                                              ", or a prefix for it, got neither"));
}

/// Throws `error{unsupported}` for what `format` has no place for.
inline void refuse_small_tensors(const LoraSet& set, std::string_view format) {
  if (set.diffs.empty()) return;
  throw error(ErrorCode::unsupported,
              concat(set.diffs[0].path, ": expected pairs alone, since a ", format,
                     " file has no place for the difference of a whole tensor, got ", set.diffs.size(),
                     "; leave small tensors out, or write a kohya file"),
              {.layer = set.diffs[0].path});
}

inline void refuse_empty(std::span<const LoraSet> sets, const std::string& path) {
  for (const LoraSet& set : sets)
    if (!set.modules.empty() || !set.diffs.empty()) return;
  throw error(ErrorCode::bad_argument, concat(path, ": expected an adapter of at least one module, got none"),
              {.file = path});
}

/// [rank, in, ...kernel] of A and [out, rank, 1, ...] of B.
[[nodiscard]] inline std::vector<std::int64_t> shape_of_a(const LoraModule& module) {
  std::vector<std::int64_t> shape{module.pair.rank, module.pair.in};
  for (const std::int64_t extent : module.kernel) shape[1] /= extent;
  shape.insert(shape.end(), module.kernel.begin(), module.kernel.end());
  return shape;
}
[[nodiscard]] inline std::vector<std::int64_t> shape_of_b(const LoraModule& module) {
  std::vector<std::int64_t> shape{module.pair.out, module.pair.rank};
  shape.resize(2 + module.kernel.size(), 1);
  return shape;
}

/// `lora_A`, `lora_B` and, if the set has biases at all, `lora_B.bias`, as PEFT and diffusers name them; `fold` goes into B.
inline void add_peft_tensors(EncodedTensors& out, const std::string& name, const LoraModule& module,
                             bool has_biases, double fold) {
  const LoraPair& pair = module.pair;
  check_pair(pair, module.path);
  if (module.target == LoraTarget::embedding) {
    std::vector<float> b = pair.b;
    for (float& x : b) x = static_cast<float>(fold * static_cast<double>(x));
    out.add_transposed(concat(name, ".lora_embedding_A"), pair.out, pair.rank, b);
    out.add_transposed(concat(name, ".lora_embedding_B"), pair.rank, pair.in, pair.a);
    if (has_biases)
      throw error(
          ErrorCode::unsupported,
          concat(module.path, ": expected no embedding in an adapter with biases (lora_bias), got one"),
          {.layer = module.path});
    return;
  }
  out.add(concat(name, ".lora_A.weight"), shape_of_a(module), pair.a);
  out.add(concat(name, ".lora_B.weight"), shape_of_b(module), pair.b, fold);
  if (!has_biases) return;
  std::vector<float> bias = pair.bias; // the file's is multiplied by the scale when it is read
  bias.resize(static_cast<std::size_t>(pair.out));
  out.add(concat(name, ".lora_B.bias"), {pair.out}, bias, fold / pair.scale);
}

[[nodiscard]] inline bool has_biases(const LoraSet& set) {
  return std::any_of(set.modules.begin(), set.modules.end(),
                     [](const LoraModule& m) { return !m.pair.bias.empty(); });
}

/// Sets `pair` unless its key is there.
inline void set_default(std::vector<MetadataPair>& metadata, MetadataPair pair) {
  for (const MetadataPair& old : metadata)
    if (old.first == pair.first) return;
  metadata.push_back(std::move(pair));
}

/// Writes `folder`/adapter_model.safetensors and `folder`/adapter_config.json. Throws `error{unsupported}` for whole
/// differences, `error{bad_argument}` for values that the dtype cannot hold.
TENON_INLINE void write_peft(const std::string& folder, const LoraSet& set,
                             const ExportOptions& options = {});

#if TENON_HAS_BODIES
TENON_INLINE void write_peft(const std::string& folder, const LoraSet& set, const ExportOptions& options) {
  refuse_empty({&set, 1}, folder);
  refuse_small_tensors(set, "PEFT");
  EncodedTensors tensors(options.dtype, options.ledger);
  for (const LoraModule& module : set.modules)
    add_peft_tensors(tensors, concat("base_model.model.", module.path), module, has_biases(set), 1);
  std::filesystem::create_directories(folder);
  const std::string text = json_object(config_members(set, options.config)) + "\n";
  std::vector<MetadataPair> metadata = options.metadata;
  set_default(metadata, {"format", "pt"});
  TemporaryFile config(concat(folder, "/adapter_config.json"));
  config.write(text.data(), text.size());
  tensors.write(concat(folder, "/adapter_model.safetensors"), metadata);
  config.publish();
}
#endif

/// Writes one file with the components given, each module under its component's prefix, scales in B. The configuration
/// of each stands in the header (`lora_adapter_metadata`).
TENON_INLINE void write_diffusers(const std::string& path, std::span<const LoraSet> sets,
                                  const ExportOptions& options = {});

#if TENON_HAS_BODIES
TENON_INLINE void write_diffusers(const std::string& path, std::span<const LoraSet> sets,
                                  const ExportOptions& options) {
  refuse_empty(sets, path);
  EncodedTensors tensors(options.dtype, options.ledger);
  std::vector<JsonText> configs;
  ExportConfig config = options.config;
  config.is_scale_folded = true;
  for (const LoraSet& set : sets) {
    refuse_small_tensors(set, "diffusers");
    if (set.modules.empty()) continue;
    const std::string prefix(options.prefix.empty() ? names_of(set.component).diffusers
                                                    : std::string_view(options.prefix));
    for (const LoraModule& module : set.modules)
      add_peft_tensors(tensors, concat(prefix, ".", module.path), module, has_biases(set), module.pair.scale);
    for (auto& [key, value] : config_members(set, config))
      configs.emplace_back(concat(prefix, ".", key), value);
  }
  std::vector<MetadataPair> metadata = options.metadata;
  set_default(metadata, {"format", "pt"});
  set_default(metadata, {"lora_adapter_metadata", json_object(configs)});
  tensors.write(path, metadata);
}
#endif

/// A path as kohya flattens it.
[[nodiscard]] inline std::string flattened(std::string_view prefix, std::string_view path) {
  std::string out = concat(prefix, "_", path);
  std::replace(out.begin() + static_cast<std::ptrdiff_t>(prefix.size()), out.end(), '.', '_');
  return out;
}

/// Adds a whole difference under its module: `.diff` of a weight, `.diff_b` of a bias.
inline void add_kohya_diff(EncodedTensors& out, std::string_view prefix, const DiffTensor& diff) {
  const std::string_view path = diff.path;
  const std::size_t dot = path.rfind('.');
  const std::string_view part = dot == std::string_view::npos ? std::string_view{} : path.substr(dot + 1);
  if (part != "weight" && part != "bias")
    throw error(
        ErrorCode::unsupported,
        concat(
            path,
            ": expected a module's weight or bias, since a kohya file has no place for others, got neither"),
        {.layer = diff.path});
  const std::span<const std::int64_t> shape = diff.values.shape();
  out.add(concat(flattened(prefix, path.substr(0, dot)), part == "weight" ? ".diff" : ".diff_b"),
          std::vector<std::int64_t>(shape.begin(), shape.end()), diff.values.values());
}

/// Writes one file with the components given: `lora_unet_a_b.lora_down.weight`, `.lora_up.weight`, `.alpha`, and for
/// biases and whole differences `.diff_b` and `.diff`, which ComfyUI and LyCORIS read. Two modules whose paths
/// flatten to one name are refused.
TENON_INLINE void write_kohya(const std::string& path, std::span<const LoraSet> sets,
                              const ExportOptions& options = {});

#if TENON_HAS_BODIES
TENON_INLINE void write_kohya(const std::string& path, std::span<const LoraSet> sets,
                              const ExportOptions& options) {
  refuse_empty(sets, path);
  EncodedTensors tensors(options.dtype, options.ledger);
  std::vector<std::int64_t> ranks;
  std::vector<double> alphas;
  for (const LoraSet& set : sets) {
    const std::string prefix(options.prefix.empty() ? names_of(set.component).kohya
                                                    : std::string_view(options.prefix));
    for (const LoraModule& module : set.modules) {
      check_pair(module.pair, module.path);
      if (module.target == LoraTarget::embedding)
        throw error(ErrorCode::unsupported,
                    concat(module.path,
                           ": expected linears and convolutions, since a kohya file has no place for an ",
                           "embedding's pair, got an embedding"),
                    {.layer = module.path});
      const std::string name = flattened(prefix, module.path);
      tensors.add(concat(name, ".lora_down.weight"), shape_of_a(module), module.pair.a);
      tensors.add(concat(name, ".lora_up.weight"), shape_of_b(module), module.pair.b);
      tensors.add_number(concat(name, ".alpha"), alpha_of(module.pair, false));
      if (!module.pair.bias.empty())
        tensors.add(concat(name, ".diff_b"), {module.pair.out}, module.pair.bias);
      ranks.push_back(module.pair.rank);
      alphas.push_back(alpha_of(module.pair, false));
    }
    for (const DiffTensor& diff : set.diffs) add_kohya_diff(tensors, prefix, diff);
  }
  std::vector<MetadataPair> metadata = options.metadata;
  const auto common = [](const auto& values, auto text) {
    const bool is_one =
        !values.empty() && std::all_of(values.begin(), values.end(), [&](auto x) { return x == values[0]; });
    return is_one ? text(values[0]) : std::string("Dynamic"); // kohya's own word, of its resizing script
  };
  set_default(metadata, {"ss_network_module", "networks.lora"});
  set_default(metadata, {"ss_network_dim", common(ranks, [](std::int64_t x) { return concat(x); })});
  set_default(metadata, {"ss_network_alpha", common(alphas, [](double x) { return number_text(x); })});
  tensors.write(path, metadata);
}
#endif

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// The naming conventions of adapter files, as a table: how keys begin (which component of a pipeline they are
// for), how a module's name is written, and which endings there are. One function takes a key apart for all
// of them. A new tool is a new row.
#pragma once

#include <tenon/formats/key_endings.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tenon {

/// How a key begins, and the part of a pipeline that it names. A UNet and a transformer are both `denoiser`.
struct KeyPrefix {
  std::string_view text;
  std::string_view component;
};

enum class NameStyle : std::uint8_t {
  dotted,    ///< as the model's own names
  flattened, ///< dots written as underscores: can only be read beside the model's names
};

struct Dialect {
  std::string_view name;
  NameStyle style;
  std::span<const KeyPrefix> prefixes; ///< the first that fits is taken
  bool has_adapter_names = false;      ///< `.lora_A.default.weight`
  bool has_whole_tensors = false;      ///< `.weight`, `.bias`
  bool has_processors = false;         ///< old attention processors, XLabs
};

inline constexpr std::array peft_prefixes{KeyPrefix{"base_model.model.", ""}};
inline constexpr std::array kohya_prefixes{
    KeyPrefix{"lora_unet_", "denoiser"},       KeyPrefix{"lora_transformer_", "denoiser"},
    KeyPrefix{"lora_te1_", "text_encoder"},    KeyPrefix{"lora_te2_", "text_encoder_2"},
    KeyPrefix{"lora_te3_", "text_encoder_3"},  KeyPrefix{"lora_te_", "text_encoder"},
    KeyPrefix{"lora_prior_unet_", "denoiser"}, KeyPrefix{"lora_prior_te_", "text_encoder"},
    KeyPrefix{"oft_unet_", "denoiser"},
};
inline constexpr std::array lycoris_prefixes{KeyPrefix{"lycoris_", ""}};
inline constexpr std::array diffusers_prefixes{
    KeyPrefix{"transformer.", "denoiser"},          KeyPrefix{"unet.", "denoiser"},
    KeyPrefix{"transformer_2.", "denoiser_2"},      KeyPrefix{"text_encoder.", "text_encoder"},
    KeyPrefix{"text_encoder_2.", "text_encoder_2"}, KeyPrefix{"text_encoder_3.", "text_encoder_3"},
};
inline constexpr std::array comfy_prefixes{
    KeyPrefix{"diffusion_model.", "denoiser"},
    KeyPrefix{"model.diffusion_model.", "denoiser"},
    KeyPrefix{"text_encoders.clip_l.transformer.", "text_encoder"},
    KeyPrefix{"text_encoders.clip_g.transformer.", "text_encoder_2"},
    KeyPrefix{"text_encoders.t5xxl.transformer.", "text_encoder_3"},
};
inline constexpr std::array omi_prefixes{
    KeyPrefix{"unet.", "denoiser"},       KeyPrefix{"transformer.", "denoiser"},
    KeyPrefix{"clip_l.", "text_encoder"}, KeyPrefix{"clip_g.", "text_encoder_2"},
    KeyPrefix{"t5.", "text_encoder_3"},
};
inline constexpr std::array no_prefix{KeyPrefix{"", ""}};

/// In the order in which they are tried: the first that explains every key of a file is its dialect.
inline constexpr std::array<Dialect, 7> dialect_table{{
    {"PEFT", NameStyle::dotted, peft_prefixes, true, true, false},
    {"kohya", NameStyle::flattened, kohya_prefixes, false, true, false},
    {"LyCORIS", NameStyle::flattened, lycoris_prefixes, false, true, false},
    {"diffusers", NameStyle::dotted, diffusers_prefixes, true, false, true},
    {"ComfyUI", NameStyle::dotted, comfy_prefixes, true, false, true},
    {"OMI", NameStyle::dotted, omi_prefixes, false, false, false},
    {"plain paths", NameStyle::dotted, no_prefix, true, false, true},
}};

/// The row of this name, or nullptr.
[[nodiscard]] constexpr const Dialect* find_dialect(std::string_view name) noexcept {
  for (const Dialect& dialect : dialect_table)
    if (dialect.name == name) return &dialect;
  return nullptr;
}

/// A key taken apart. `module` is as the file writes it: dotted or flattened.
struct AdapterKey {
  std::string_view prefix{};
  std::string_view component{}; ///< empty where the file does not say
  std::string_view expert{};    ///< "high_noise" or "low_noise", of a model with two denoisers
  std::string_view adapter_name{};
  std::string module{};
  AdapterPart part{};
};

/// Wan 2.2 adapters for one of the two experts begin `|high_noise|` or `|low_noise|`.
[[nodiscard]] constexpr std::string_view take_expert_tag(std::string_view& key) noexcept {
  for (const std::string_view tag : {std::string_view("|high_noise|"), std::string_view("|low_noise|")})
    if (key.starts_with(tag)) {
      key.remove_prefix(tag.size());
      return tag.substr(1, tag.size() - 2);
    }
  return {};
}

/// VeRA's shared matrices in PEFT's files belong to no module.
[[nodiscard]] constexpr std::optional<AdapterPart> shared_part(std::string_view key) noexcept {
  if (key.starts_with("base_model.vera_A")) return AdapterPart::vera_a;
  if (key.starts_with("base_model.vera_B")) return AdapterPart::vera_b;
  return std::nullopt;
}

/// Takes a key apart as `dialect` writes it; nothing if it is not of this dialect.
[[nodiscard]] inline std::optional<AdapterKey> parse_key(const Dialect& dialect, std::string_view key) {
  AdapterKey out;
  if (dialect.prefixes.data() == peft_prefixes.data())
    if (const std::optional<AdapterPart> part = shared_part(key)) {
      out.part = *part;
      return out;
    }
  out.expert = take_expert_tag(key);
  const KeyPrefix* prefix = nullptr;
  for (const KeyPrefix& candidate : dialect.prefixes)
    if (key.starts_with(candidate.text)) {
      prefix = &candidate;
      break;
    }
  if (prefix == nullptr) return std::nullopt;
  key.remove_prefix(prefix->text.size());
  if (out.expert.empty()) out.expert = take_expert_tag(key);
  out.prefix = prefix->text;
  out.component = prefix->component;

  std::optional<FoundEnding> ending;
  if (dialect.has_processors) ending = find_processor_ending(key);
  if (!ending) ending = find_ending(key, lora_endings, dialect.has_adapter_names);
  if (!ending && dialect.has_adapter_names) ending = find_ending(key, peft_endings, true);
  if (!ending) ending = find_ending(key, lycoris_endings, dialect.has_adapter_names);
  if (!ending && dialect.has_whole_tensors) {
    ending = find_ending(key, whole_endings, false);
    if (ending) { // PEFT's state dict: <module>.modules_to_save.<adapter>.weight
      constexpr std::string_view mark = ".modules_to_save";
      const std::string_view module = key.substr(0, ending->at);
      const std::size_t at = module.rfind(mark);
      if (at != std::string_view::npos && at > 0) {
        const std::string_view name = module.substr(at + mark.size());
        if (name.empty() || (name.front() == '.' && name.rfind('.') == 0)) {
          ending->at = at;
          if (!name.empty()) ending->adapter_name = name.substr(1);
        }
      }
    }
  }
  if (!ending) return std::nullopt;
  // PEFT's wrapper of a module holds it as `base_layer`; biases that were trained are saved under it
  constexpr std::string_view wrapped = ".base_layer";
  if (dialect.has_whole_tensors && key.substr(0, ending->at).ends_with(wrapped)) ending->at -= wrapped.size();
  out.part = ending->part;
  out.adapter_name = ending->adapter_name;
  out.module = key.substr(0, ending->at);
  out.module += ending->module_tail;
  if (out.module.empty() || out.module.front() == '.') return std::nullopt;
  return out;
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// How adapter files name the parts of a module: the ends of keys, as tables. What is before the ending names
// the module; which one that is, the model's own names decide (name_table.hpp).
#pragma once

#include <tenon/formats/adapter_part.hpp>

#include <array>
#include <optional>
#include <span>
#include <string_view>

namespace tenon {

/// `<module>` + `infix` + an adapter's name, if there is one (`.default`) + `tail`.
struct KeyEnding {
  std::string_view infix;
  std::string_view tail;
  AdapterPart part;
};

/// PEFT's alone.
inline constexpr std::array peft_endings{
    KeyEnding{".lora_embedding_A", "", AdapterPart::embedding_a},
    KeyEnding{".lora_embedding_B", "", AdapterPart::embedding_b},
    KeyEnding{".lora_magnitude_vector", ".weight", AdapterPart::magnitude},
    KeyEnding{".lora_magnitude_vector", "", AdapterPart::magnitude},
    KeyEnding{".ia3_l", "", AdapterPart::ia3_factor},
    KeyEnding{".oft_R", ".weight", AdapterPart::oft_r},
    KeyEnding{".oft_R", "", AdapterPart::oft_r},
    KeyEnding{".oft_embedding_R", ".weight", AdapterPart::oft_embedding_r},
    KeyEnding{".boft_R", "", AdapterPart::boft_r},
    KeyEnding{".boft_s", "", AdapterPart::boft_s},
    KeyEnding{".vera_lambda_b", "", AdapterPart::vera_lambda_b},
    KeyEnding{".vera_lambda_d", "", AdapterPart::vera_lambda_d},
    KeyEnding{".glora_A", ".Xd", AdapterPart::glora_a_d},
    KeyEnding{".glora_A", ".Xu", AdapterPart::glora_a_u},
    KeyEnding{".glora_A", ".X", AdapterPart::glora_a},
    KeyEnding{".glora_A", ".zeros", AdapterPart::glora_a},
    KeyEnding{".glora_B", ".Xd", AdapterPart::glora_b_d},
    KeyEnding{".glora_B", ".Xu", AdapterPart::glora_b_u},
    KeyEnding{".glora_B", ".X", AdapterPart::glora_b},
    KeyEnding{".glora_B", ".zeros", AdapterPart::glora_b},
    KeyEnding{".glora_C", ".Xd", AdapterPart::glora_c_d},
    KeyEnding{".glora_C", ".Xu", AdapterPart::glora_c_u},
    KeyEnding{".glora_C", ".X", AdapterPart::glora_c},
    KeyEnding{".glora_C", ".zeros", AdapterPart::glora_c},
    KeyEnding{".glora_D", ".X", AdapterPart::glora_d},
    KeyEnding{".glora_D", ".zeros", AdapterPart::glora_d},
    KeyEnding{".glora_E", ".X", AdapterPart::glora_e},
    KeyEnding{".glora_E", ".zeros", AdapterPart::glora_e},
};

/// LoRA's own two factors by their several names.
inline constexpr std::array lora_endings{
    KeyEnding{".lora_A", ".weight", AdapterPart::lora_a},
    KeyEnding{".lora_B", ".weight", AdapterPart::lora_b},
    KeyEnding{".lora_B", ".bias", AdapterPart::lora_bias},
    KeyEnding{".lora_down", ".weight", AdapterPart::lora_a},
    KeyEnding{".lora_up", ".weight", AdapterPart::lora_b},
    KeyEnding{".lora_mid", ".weight", AdapterPart::lora_mid},
    KeyEnding{".lora.down", ".weight", AdapterPart::lora_a},
    KeyEnding{".lora.up", ".weight", AdapterPart::lora_b},
    KeyEnding{".lora_linear_layer.down", ".weight", AdapterPart::lora_a},
    KeyEnding{".lora_linear_layer.up", ".weight", AdapterPart::lora_b},
    KeyEnding{".alpha", "", AdapterPart::alpha},
    KeyEnding{".scale", "", AdapterPart::scale},
    KeyEnding{".dora_scale", "", AdapterPart::magnitude},
    KeyEnding{".magnitude", "", AdapterPart::magnitude},
    KeyEnding{".diff", "", AdapterPart::diff},
    KeyEnding{".diff_b", "", AdapterPart::diff_bias},
};

/// LyCORIS's, some of which PEFT has too.
inline constexpr std::array lycoris_endings{
    KeyEnding{".scalar", "", AdapterPart::scalar},
    KeyEnding{".hada_w1_a", "", AdapterPart::hada_w1_a},
    KeyEnding{".hada_w1_b", "", AdapterPart::hada_w1_b},
    KeyEnding{".hada_w2_a", "", AdapterPart::hada_w2_a},
    KeyEnding{".hada_w2_b", "", AdapterPart::hada_w2_b},
    KeyEnding{".hada_t1", "", AdapterPart::hada_t1},
    KeyEnding{".hada_t2", "", AdapterPart::hada_t2},
    KeyEnding{".lokr_w1", "", AdapterPart::lokr_w1},
    KeyEnding{".lokr_w1_a", "", AdapterPart::lokr_w1_a},
    KeyEnding{".lokr_w1_b", "", AdapterPart::lokr_w1_b},
    KeyEnding{".lokr_w2", "", AdapterPart::lokr_w2},
    KeyEnding{".lokr_w2_a", "", AdapterPart::lokr_w2_a},
    KeyEnding{".lokr_w2_b", "", AdapterPart::lokr_w2_b},
    KeyEnding{".lokr_t1", "", AdapterPart::lokr_t1},
    KeyEnding{".lokr_t2", "", AdapterPart::lokr_t2},
    KeyEnding{".on_input", "", AdapterPart::ia3_on_input},
    KeyEnding{".oft_blocks", "", AdapterPart::oft_blocks},
    KeyEnding{".oft_diag", "", AdapterPart::oft_diag},
    KeyEnding{".rescale", "", AdapterPart::rescale},
    KeyEnding{".a1", ".weight", AdapterPart::glora_a1},
    KeyEnding{".a2", ".weight", AdapterPart::glora_a2},
    KeyEnding{".b1", ".weight", AdapterPart::glora_b1},
    KeyEnding{".b2", ".weight", AdapterPart::glora_b2},
    KeyEnding{".bm", ".weight", AdapterPart::glora_bm},
    KeyEnding{".w_norm", "", AdapterPart::norm_weight},
    KeyEnding{".b_norm", "", AdapterPart::norm_bias},
    KeyEnding{".bias_indices", "", AdapterPart::sparse_indices},
    KeyEnding{".bias_values", "", AdapterPart::sparse_values},
    KeyEnding{".bias_size", "", AdapterPart::sparse_size},
    KeyEnding{".lora_time_gamma", "", AdapterPart::time_gamma},
    KeyEnding{".lora_time_beta", "", AdapterPart::time_beta},
};

/// A whole tensor of the module: saved beside LoRA by PEFT, or LyCORIS's IA3. Only where a dialect has them:
/// every checkpoint's keys end so.
inline constexpr std::array whole_endings{
    KeyEnding{".weight", "", AdapterPart::whole_weight},
    KeyEnding{".bias", "", AdapterPart::whole_bias},
};

/// Names that stand for a module inside an attention processor; `module` takes the place of `stem`, and
/// `.down.weight` or `.up.weight` follow.
struct ProcessorStem {
  std::string_view stem;
  std::string_view module;
};

/// diffusers before 0.18 (attention processors of a UNet; a text encoder's `self_attn.to_q_lora`), and XLabs.
inline constexpr std::array processor_stems{
    ProcessorStem{".processor.to_q_lora", ".to_q"},
    ProcessorStem{".processor.to_k_lora", ".to_k"},
    ProcessorStem{".processor.to_v_lora", ".to_v"},
    ProcessorStem{".processor.to_out_lora", ".to_out.0"},
    ProcessorStem{".processor.add_k_proj_lora", ".add_k_proj"},
    ProcessorStem{".processor.add_v_proj_lora", ".add_v_proj"},
    ProcessorStem{".self_attn.to_q_lora", ".self_attn.q_proj"},
    ProcessorStem{".self_attn.to_k_lora", ".self_attn.k_proj"},
    ProcessorStem{".self_attn.to_v_lora", ".self_attn.v_proj"},
    ProcessorStem{".self_attn.to_out_lora", ".self_attn.out_proj"},
    ProcessorStem{".processor.qkv_lora1", ".img_attn.qkv"},
    ProcessorStem{".processor.qkv_lora2", ".txt_attn.qkv"},
    ProcessorStem{".processor.proj_lora1", ".img_attn.proj"},
    ProcessorStem{".processor.proj_lora2", ".txt_attn.proj"},
    ProcessorStem{".processor.qkv_lora", ".qkv"},
    ProcessorStem{".processor.proj_lora", ".linear2"},
};

/// Where a key's ending begins, what it says, and what stands for the module after it (mostly nothing).
struct FoundEnding {
  std::size_t at = 0;
  AdapterPart part{};
  std::string_view module_tail{};
  std::string_view adapter_name{};
};

/// The first ending of the table that the key has. `takes_names`: an adapter's name, one word after a dot, may
/// stand before the tail.
[[nodiscard]] constexpr std::optional<FoundEnding>
find_ending(std::string_view key, std::span<const KeyEnding> endings, bool takes_names) noexcept {
  for (const KeyEnding& ending : endings) {
    if (!key.ends_with(ending.tail)) continue;
    const std::size_t at = key.rfind(ending.infix);
    const std::size_t after = at + ending.infix.size();
    if (at == std::string_view::npos || at == 0 || after + ending.tail.size() > key.size()) continue;
    std::string_view name = key.substr(after, key.size() - after - ending.tail.size());
    if (name.empty()) return FoundEnding{.at = at, .part = ending.part};
    if (!takes_names || name.size() < 2 || name.front() != '.') continue;
    name.remove_prefix(1);
    if (ending.tail.empty() && (name == "weight" || name == "bias")) continue; // of a module called `scale`
    if (name.find('.') == std::string_view::npos)
      return FoundEnding{.at = at, .part = ending.part, .adapter_name = name};
  }
  return std::nullopt;
}

[[nodiscard]] constexpr std::optional<FoundEnding> find_processor_ending(std::string_view key) noexcept {
  AdapterPart part{};
  if (key.ends_with(".down.weight")) {
    part = AdapterPart::lora_a;
    key.remove_suffix(std::string_view(".down.weight").size());
  } else if (key.ends_with(".up.weight")) {
    part = AdapterPart::lora_b;
    key.remove_suffix(std::string_view(".up.weight").size());
  } else {
    return std::nullopt;
  }
  for (const ProcessorStem& stem : processor_stems)
    if (key.ends_with(stem.stem))
      return FoundEnding{.at = key.size() - stem.stem.size(), .part = part, .module_tail = stem.module};
  return std::nullopt;
}

} // namespace tenon

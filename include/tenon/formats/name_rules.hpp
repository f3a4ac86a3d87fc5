// SPDX-License-Identifier: Apache-2.0
// Models whose layers have two names: that of diffusers' classes and that of the original release, which many
// adapters use; with the projections that one of them fuses; or that of the files and that of a library's later classes.
// Rules are rows of a table; `#` stands for a number. They are applied to the model's names, never to a file's.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace tenon {

/// What of a module a name stands for.
enum class NameShare : std::uint8_t {
  whole,
  part,    ///< rows of the other side's module: number `part` of `parts`, in order
  columns, ///< columns of it, where the net says so (graph/slices.hpp)
  swapped, ///< the whole, its two halves of rows in the other order (shift and scale)
};

/// Module `ours` of diffusers' class is `theirs` of the original release, or its rows number `part` of `parts`.
/// `factor`: theirs has one number, factor * (our first) + our second + offset, for our two.
struct NameRule {
  std::string_view ours;
  std::string_view theirs;
  std::int8_t part = 0;
  std::int8_t parts = 1;
  std::int8_t factor = 0;
  std::int8_t offset = 0;
  bool is_swapped = false;
  bool is_prefix = false; ///< what follows in the name is the same on both sides
};

inline constexpr std::array name_rules{
    // FLUX.1
    NameRule{"transformer_blocks.#.attn.to_q", "double_blocks.#.img_attn.qkv", 0, 3},
    NameRule{"transformer_blocks.#.attn.to_k", "double_blocks.#.img_attn.qkv", 1, 3},
    NameRule{"transformer_blocks.#.attn.to_v", "double_blocks.#.img_attn.qkv", 2, 3},
    NameRule{"transformer_blocks.#.attn.add_q_proj", "double_blocks.#.txt_attn.qkv", 0, 3},
    NameRule{"transformer_blocks.#.attn.add_k_proj", "double_blocks.#.txt_attn.qkv", 1, 3},
    NameRule{"transformer_blocks.#.attn.add_v_proj", "double_blocks.#.txt_attn.qkv", 2, 3},
    NameRule{"transformer_blocks.#.attn.to_out.0", "double_blocks.#.img_attn.proj"},
    NameRule{"transformer_blocks.#.attn.to_add_out", "double_blocks.#.txt_attn.proj"},
    NameRule{"transformer_blocks.#.ff.net.0.proj", "double_blocks.#.img_mlp.0"},
    NameRule{"transformer_blocks.#.ff.net.2", "double_blocks.#.img_mlp.2"},
    NameRule{"transformer_blocks.#.ff_context.net.0.proj", "double_blocks.#.txt_mlp.0"},
    NameRule{"transformer_blocks.#.ff_context.net.2", "double_blocks.#.txt_mlp.2"},
    NameRule{"transformer_blocks.#.norm1.linear", "double_blocks.#.img_mod.lin"},
    NameRule{"transformer_blocks.#.norm1_context.linear", "double_blocks.#.txt_mod.lin"},
    NameRule{"single_transformer_blocks.#.attn.to_q", "single_blocks.#.linear1", 0, 4},
    NameRule{"single_transformer_blocks.#.attn.to_k", "single_blocks.#.linear1", 1, 4},
    NameRule{"single_transformer_blocks.#.attn.to_v", "single_blocks.#.linear1", 2, 4},
    NameRule{"single_transformer_blocks.#.proj_mlp", "single_blocks.#.linear1", 3, 4},
    NameRule{"single_transformer_blocks.#.attn.to_q", "single_blocks.#.qkv", 0,
             3}, // XLabs: linear1 without mlp
    NameRule{"single_transformer_blocks.#.attn.to_k", "single_blocks.#.qkv", 1, 3},
    NameRule{"single_transformer_blocks.#.attn.to_v", "single_blocks.#.qkv", 2, 3},
    // OMI: the projections of a fused one by number
    NameRule{"transformer_blocks.#.attn.to_q", "double_blocks.#.img_attn.qkv.0"},
    NameRule{"transformer_blocks.#.attn.to_k", "double_blocks.#.img_attn.qkv.1"},
    NameRule{"transformer_blocks.#.attn.to_v", "double_blocks.#.img_attn.qkv.2"},
    NameRule{"double_blocks.#.img_attn.qkv.0", "double_blocks.#.img_attn.qkv", 0, 3},
    NameRule{"double_blocks.#.img_attn.qkv.1", "double_blocks.#.img_attn.qkv", 1, 3},
    NameRule{"double_blocks.#.img_attn.qkv.2", "double_blocks.#.img_attn.qkv", 2, 3},
    NameRule{"transformer_blocks.#.attn.add_q_proj", "double_blocks.#.txt_attn.qkv.0"},
    NameRule{"transformer_blocks.#.attn.add_k_proj", "double_blocks.#.txt_attn.qkv.1"},
    NameRule{"transformer_blocks.#.attn.add_v_proj", "double_blocks.#.txt_attn.qkv.2"},
    NameRule{"double_blocks.#.txt_attn.qkv.0", "double_blocks.#.txt_attn.qkv", 0, 3},
    NameRule{"double_blocks.#.txt_attn.qkv.1", "double_blocks.#.txt_attn.qkv", 1, 3},
    NameRule{"double_blocks.#.txt_attn.qkv.2", "double_blocks.#.txt_attn.qkv", 2, 3},
    NameRule{"single_transformer_blocks.#.attn.to_q", "single_blocks.#.linear1.0"},
    NameRule{"single_transformer_blocks.#.attn.to_k", "single_blocks.#.linear1.1"},
    NameRule{"single_transformer_blocks.#.attn.to_v", "single_blocks.#.linear1.2"},
    NameRule{"single_transformer_blocks.#.proj_mlp", "single_blocks.#.linear1.3"},
    NameRule{"single_blocks.#.linear1.0", "single_blocks.#.linear1", 0, 4},
    NameRule{"single_blocks.#.linear1.1", "single_blocks.#.linear1", 1, 4},
    NameRule{"single_blocks.#.linear1.2", "single_blocks.#.linear1", 2, 4},
    NameRule{"single_blocks.#.linear1.3", "single_blocks.#.linear1", 3, 4},
    NameRule{"single_transformer_blocks.#.proj_out", "single_blocks.#.linear2"},
    NameRule{"single_transformer_blocks.#.norm.linear", "single_blocks.#.modulation.lin"},
    NameRule{"x_embedder", "img_in"},
    NameRule{"context_embedder", "txt_in"},
    NameRule{"time_text_embed.timestep_embedder.linear_1", "time_in.in_layer"},
    NameRule{"time_text_embed.timestep_embedder.linear_2", "time_in.out_layer"},
    NameRule{"time_text_embed.text_embedder.linear_1", "vector_in.in_layer"},
    NameRule{"time_text_embed.text_embedder.linear_2", "vector_in.out_layer"},
    NameRule{"time_text_embed.guidance_embedder.linear_1", "guidance_in.in_layer"},
    NameRule{"time_text_embed.guidance_embedder.linear_2", "guidance_in.out_layer"},
    NameRule{"proj_out", "final_layer.linear"},
    NameRule{.ours = "norm_out.linear", .theirs = "final_layer.adaLN_modulation.1", .is_swapped = true},
    // Wan 2.1
    NameRule{"blocks.#.attn1.to_q", "blocks.#.self_attn.q"},
    NameRule{"blocks.#.attn1.to_k", "blocks.#.self_attn.k"},
    NameRule{"blocks.#.attn1.to_v", "blocks.#.self_attn.v"},
    NameRule{"blocks.#.attn1.to_out.0", "blocks.#.self_attn.o"},
    NameRule{"blocks.#.attn1.norm_q", "blocks.#.self_attn.norm_q"},
    NameRule{"blocks.#.attn1.norm_k", "blocks.#.self_attn.norm_k"},
    NameRule{"blocks.#.attn2.to_q", "blocks.#.cross_attn.q"},
    NameRule{"blocks.#.attn2.to_k", "blocks.#.cross_attn.k"},
    NameRule{"blocks.#.attn2.to_v", "blocks.#.cross_attn.v"},
    NameRule{"blocks.#.attn2.to_out.0", "blocks.#.cross_attn.o"},
    NameRule{"blocks.#.attn2.norm_q", "blocks.#.cross_attn.norm_q"},
    NameRule{"blocks.#.attn2.norm_k", "blocks.#.cross_attn.norm_k"},
    NameRule{"blocks.#.attn2.add_k_proj", "blocks.#.cross_attn.k_img"},
    NameRule{"blocks.#.attn2.add_v_proj", "blocks.#.cross_attn.v_img"},
    NameRule{"blocks.#.attn2.norm_added_k", "blocks.#.cross_attn.norm_k_img"},
    NameRule{"blocks.#.norm2", "blocks.#.norm3"},
    NameRule{"blocks.#.ffn.net.0.proj", "blocks.#.ffn.0"},
    NameRule{"blocks.#.ffn.net.2", "blocks.#.ffn.2"},
    NameRule{"condition_embedder.time_embedder.linear_1", "time_embedding.0"},
    NameRule{"condition_embedder.time_embedder.linear_2", "time_embedding.2"},
    NameRule{"condition_embedder.time_proj", "time_projection.1"},
    NameRule{"condition_embedder.text_embedder.linear_1", "text_embedding.0"},
    NameRule{"condition_embedder.text_embedder.linear_2", "text_embedding.2"},
    NameRule{"condition_embedder.image_embedder.norm1", "img_emb.proj.0"},
    NameRule{"condition_embedder.image_embedder.norm2", "img_emb.proj.4"},
    NameRule{"condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"},
    NameRule{"condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"},
    NameRule{"proj_out", "head.head"},
    // Stable Diffusion 1, 2, XL: the original UNet numbers its blocks through
    NameRule{"down_blocks.#.attentions.#", "input_blocks.#.1", 0, 1, 3, 1, false, true},
    NameRule{"up_blocks.#.attentions.#", "output_blocks.#.1", 0, 1, 3, 0, false, true},
    NameRule{.ours = "mid_block.attentions.0", .theirs = "middle_block.1", .is_prefix = true},
    NameRule{"down_blocks.#.resnets.#.conv1", "input_blocks.#.0.in_layers.2", 0, 1, 3, 1},
    NameRule{"down_blocks.#.resnets.#.conv2", "input_blocks.#.0.out_layers.3", 0, 1, 3, 1},
    NameRule{"down_blocks.#.resnets.#.time_emb_proj", "input_blocks.#.0.emb_layers.1", 0, 1, 3, 1},
    NameRule{"down_blocks.#.resnets.#.conv_shortcut", "input_blocks.#.0.skip_connection", 0, 1, 3, 1},
    NameRule{"down_blocks.#.resnets.#.norm1", "input_blocks.#.0.in_layers.0", 0, 1, 3, 1},
    NameRule{"down_blocks.#.resnets.#.norm2", "input_blocks.#.0.out_layers.0", 0, 1, 3, 1},
    NameRule{"up_blocks.#.resnets.#.conv1", "output_blocks.#.0.in_layers.2", 0, 1, 3, 0},
    NameRule{"up_blocks.#.resnets.#.conv2", "output_blocks.#.0.out_layers.3", 0, 1, 3, 0},
    NameRule{"up_blocks.#.resnets.#.time_emb_proj", "output_blocks.#.0.emb_layers.1", 0, 1, 3, 0},
    NameRule{"up_blocks.#.resnets.#.conv_shortcut", "output_blocks.#.0.skip_connection", 0, 1, 3, 0},
    NameRule{"up_blocks.#.resnets.#.norm1", "output_blocks.#.0.in_layers.0", 0, 1, 3, 0},
    NameRule{"up_blocks.#.resnets.#.norm2", "output_blocks.#.0.out_layers.0", 0, 1, 3, 0},
    NameRule{"mid_block.resnets.0.conv1", "middle_block.0.in_layers.2"},
    NameRule{"mid_block.resnets.0.conv2", "middle_block.0.out_layers.3"},
    NameRule{"mid_block.resnets.0.norm1", "middle_block.0.in_layers.0"},
    NameRule{"mid_block.resnets.0.norm2", "middle_block.0.out_layers.0"},
    NameRule{"mid_block.resnets.0.time_emb_proj", "middle_block.0.emb_layers.1"},
    NameRule{"mid_block.resnets.1.conv1", "middle_block.2.in_layers.2"},
    NameRule{"mid_block.resnets.1.conv2", "middle_block.2.out_layers.3"},
    NameRule{"mid_block.resnets.1.norm1", "middle_block.2.in_layers.0"},
    NameRule{"mid_block.resnets.1.norm2", "middle_block.2.out_layers.0"},
    NameRule{"mid_block.resnets.1.time_emb_proj", "middle_block.2.emb_layers.1"},
    NameRule{"down_blocks.#.downsamplers.#.conv", "input_blocks.#.0.op", 0, 1, 3, 3},
    NameRule{"up_blocks.#.upsamplers.#.conv", "output_blocks.#.1.conv", 0, 1, 3, 2},
    NameRule{"up_blocks.#.upsamplers.#.conv", "output_blocks.#.2.conv", 0, 1, 3, 2},
    NameRule{"conv_in", "input_blocks.0.0"},
    NameRule{"conv_out", "out.2"},
    NameRule{"conv_norm_out", "out.0"},
    NameRule{"time_embedding.linear_1", "time_embed.0"},
    NameRule{"time_embedding.linear_2", "time_embed.2"},
    NameRule{"add_embedding.linear_1", "label_emb.0.0"},
    NameRule{"add_embedding.linear_2", "label_emb.0.2"},
    // ViT and CLIP: the names that transformers 5 has for its modules, and PEFT for adapters, beside those of the files
    NameRule{"encoder.layer.#.attention.attention.query", "layers.#.attention.q_proj"},
    NameRule{"encoder.layer.#.attention.attention.key", "layers.#.attention.k_proj"},
    NameRule{"encoder.layer.#.attention.attention.value", "layers.#.attention.v_proj"},
    NameRule{"encoder.layer.#.attention.output.dense", "layers.#.attention.o_proj"},
    NameRule{"encoder.layer.#.intermediate.dense", "layers.#.mlp.fc1"},
    NameRule{"encoder.layer.#.output.dense", "layers.#.mlp.fc2"},
    NameRule{.ours = "text_model.encoder.layers.#", .theirs = "encoder.layers.#", .is_prefix = true},
};

/// The numbers of a name that has the form of `pattern`, and where the pattern ends in it.
struct NameMatch {
  bool fits = false;
  std::array<std::int64_t, 2> numbers{};
  std::size_t count = 0;
  std::size_t end = 0;
};

[[nodiscard]] constexpr NameMatch match_name(std::string_view pattern, std::string_view name,
                                             bool is_prefix) noexcept {
  NameMatch match;
  std::size_t at = 0;
  for (const char c : pattern) {
    if (c != '#') {
      if (at == name.size() || name[at] != c) return match;
      ++at;
      continue;
    }
    std::int64_t number = 0;
    const std::size_t first = at;
    for (; at < name.size() && name[at] >= '0' && name[at] <= '9' && at - first < 6; ++at)
      number = number * 10 + (name[at] - '0');
    if (at == first || match.count == match.numbers.size()) return match;
    match.numbers[match.count++] = number;
  }
  match.end = at;
  match.fits = at == name.size() || (is_prefix && name[at] == '.');
  return match;
}

/// `pattern` with its numbers filled in, in order.
[[nodiscard]] inline std::string fill_name(std::string_view pattern, const NameMatch& match) {
  std::string out;
  std::size_t next = 0;
  for (const char c : pattern) {
    if (c == '#')
      out += std::to_string(match.numbers[next++]);
    else
      out += c;
  }
  return out;
}

/// Another name under which adapters know a module of a model.
struct OtherName {
  std::string name{};
  NameShare share = NameShare::whole;
  bool is_fused = false; ///< the name's module is the larger one: the model's is part of it; else the reverse
  int part = 0;
  int parts = 1;
};

/// `visit(OtherName)` for each other name of the model's module `name`.
template <class Visit>
void visit_other_names(std::string_view name, Visit visit) {
  for (const NameRule& rule : name_rules) {
    const NameShare share = rule.is_swapped  ? NameShare::swapped
                            : rule.parts > 1 ? NameShare::part
                                             : NameShare::whole;
    if (NameMatch match = match_name(rule.ours, name, rule.is_prefix); match.fits) {
      const std::string_view rest = name.substr(match.end);
      if (rule.factor != 0)
        match.numbers[0] = rule.factor * match.numbers[0] + match.numbers[1] + rule.offset;
      std::string other = fill_name(rule.theirs, match);
      other += rest;
      visit(OtherName{std::move(other), share, true, rule.part, rule.parts});
    }
    if (NameMatch match = match_name(rule.theirs, name, rule.is_prefix); match.fits) {
      const std::string_view rest = name.substr(match.end);
      if (rule.factor != 0) {
        const std::int64_t number = match.numbers[0] - rule.offset;
        if (number < 0) continue;
        match.numbers = {number / rule.factor, number % rule.factor};
      }
      std::string other = fill_name(rule.ours, match);
      other += rest;
      visit(OtherName{std::move(other), share, false, rule.part, rule.parts});
    }
  }
}

} // namespace tenon

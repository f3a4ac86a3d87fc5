// SPDX-License-Identifier: Apache-2.0
// The configuration of a set of plain LoRA as PEFT states it (LoraConfig, peft/tuners/lora/config.py): r and lora_alpha
// are those of most modules, rank_pattern and alpha_pattern name the others. Keys of patterns are whole paths
// behind ^, so that none matches the end of another path. A LoRA's alpha is scale * rank, under rsLoRA scale * sqrt(rank).
#pragma once

#include <tenon/adapters/lora_pair.hpp>
#include <tenon/core/json_value.hpp>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

/// The shortest text that reads as the same double.
[[nodiscard]] inline std::string number_text(double value) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  return {digits, end};
}

[[nodiscard]] inline double alpha_of(const LoraPair& pair, bool is_rank_stabilised) noexcept {
  const auto rank = static_cast<double>(pair.rank);
  return pair.scale * (is_rank_stabilised ? std::sqrt(rank) : rank);
}

/// A path as a regular expression that matches it alone.
[[nodiscard]] inline std::string exact_pattern(std::string_view path) {
  std::string out = "^";
  for (const char c : path) {
    if (std::string_view(".^$*+?{}[]()|\\").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

/// The value that is there most often; of equals the first.
template <class T>
[[nodiscard]] T most_common(const std::vector<T>& values) {
  T best = values.front();
  std::size_t most = 0;
  for (const T& value : values) {
    std::size_t count = 0;
    for (const T& other : values) count += other == value ? 1 : 0;
    if (count > most) {
      most = count;
      best = value;
    }
  }
  return best;
}

/// One member of a JSON object: key, and value as JSON.
using JsonText = std::pair<std::string, std::string>;

[[nodiscard]] inline std::string json_object(const std::vector<JsonText>& members,
                                             std::string_view indent = "") {
  std::string out = "{";
  for (const auto& [key, value] : members)
    out += concat(out.size() == 1 ? "\n" : ",\n", indent, "  ", json_quote(key), ": ", value);
  return out + (members.empty() ? "}" : concat("\n", indent, "}"));
}

struct ExportConfig {
  std::string base_model{};        ///< base_model_name_or_path; empty: null
  std::string task_type{};         ///< "CAUSAL_LM" and the like; empty: null
  bool is_rank_stabilised = false; ///< use_rslora
  bool is_scale_folded = false;    ///< the scale is in B: alpha = rank (sqrt(rank) under rsLoRA)
};

/// The members of the configuration, by key. Precondition: the set has a module.
[[nodiscard]] inline std::vector<JsonText> config_members(const LoraSet& set, const ExportConfig& config) {
  std::vector<std::int64_t> ranks;
  std::vector<double> alphas;
  bool has_bias = false;
  for (const LoraModule& module : set.modules) {
    LoraPair unit{.rank = module.pair.rank};
    ranks.push_back(module.pair.rank);
    alphas.push_back(alpha_of(config.is_scale_folded ? unit : module.pair, config.is_rank_stabilised));
    has_bias = has_bias || !module.pair.bias.empty();
  }
  const std::int64_t rank = most_common(ranks);
  const double alpha = most_common(alphas);
  std::vector<JsonText> rank_pattern;
  std::vector<JsonText> alpha_pattern;
  std::string targets;
  for (std::size_t i = 0; i < set.modules.size(); ++i) {
    const std::string& path = set.modules[i].path;
    if (ranks[i] != rank) rank_pattern.emplace_back(exact_pattern(path), concat(ranks[i]));
    if (alphas[i] != alpha) alpha_pattern.emplace_back(exact_pattern(path), number_text(alphas[i]));
    targets += concat(i == 0 ? "\n" : ",\n", "    ", json_quote(path));
  }
  const auto text_or_null = [](const std::string& text) { return text.empty() ? "null" : json_quote(text); };
  return {{"alpha_pattern", json_object(alpha_pattern, "  ")},
          {"base_model_name_or_path", text_or_null(config.base_model)},
          {"bias", "\"none\""},
          {"fan_in_fan_out", "false"},
          {"inference_mode", "true"},
          {"init_lora_weights", "true"},
          {"lora_alpha", number_text(alpha)},
          {"lora_bias", has_bias ? "true" : "false"},
          {"lora_dropout", "0.0"},
          {"modules_to_save", "null"},
          {"peft_type", "\"LORA\""},
          {"r", concat(rank)},
          {"rank_pattern", json_object(rank_pattern, "  ")},
          {"target_modules", concat("[", targets, "\n  ]")},
          {"task_type", text_or_null(config.task_type)},
          {"use_dora", "false"},
          {"use_rslora", config.is_rank_stabilised ? "true" : "false"}};
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// PEFT's adapter_config.json: what decides an adapter's scale. Per module, rank r and alpha come from
// rank_pattern and alpha_pattern (the first key in the file's order whose regular expression matches the end
// of the module's path), else from r and lora_alpha. scale = alpha / r, or alpha / sqrt(r) for rsLoRA
// (Kalajdzievski 2023, arXiv 2312.03732).
#pragma once

#include <tenon/core/json.hpp>
#include <tenon/formats/pattern.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

/// A key of rank_pattern or alpha_pattern and its value.
template <class Value>
struct ModulePattern {
  Pattern pattern;
  Value value;
};

struct PeftConfig {
  std::int64_t rank = 0;
  double alpha = 0;
  bool rank_stabilised = false;
  std::vector<ModulePattern<std::int64_t>> ranks{};
  std::vector<ModulePattern<double>> alphas{};
  /// Settings that are on and that Tenon does not do: "use_dora is true". A file with any is refused.
  std::vector<std::string> unsupported{};

  [[nodiscard]] std::int64_t rank_of(std::string_view module) const {
    return first_match(ranks, module, rank);
  }
  [[nodiscard]] double alpha_of(std::string_view module) const { return first_match(alphas, module, alpha); }
  [[nodiscard]] double scale_of(std::string_view module) const {
    const auto r = static_cast<double>(rank_of(module));
    return alpha_of(module) / (rank_stabilised ? std::sqrt(r) : r);
  }

 private:
  template <class Value>
  static Value first_match(const std::vector<ModulePattern<Value>>& patterns, std::string_view module,
                           Value other) {
    for (const ModulePattern<Value>& candidate : patterns)
      if (candidate.pattern.matches_module(module)) return candidate.value;
    return other;
  }
};

/// Settings that change what the adapter computes; each must be absent, null, empty or have its plain value.
inline void find_unsupported(const JsonValue& root, std::vector<std::string>& out) {
  const auto is_plain = [](const JsonValue& value) {
    return value.is_null() || (value.kind == JsonKind::boolean && !value.truth) ||
           (value.kind == JsonKind::string && value.text == "none") ||
           (value.kind == JsonKind::array && value.items.empty()) ||
           (value.kind == JsonKind::object && value.members.empty());
  };
  for (const std::string_view key : {"use_dora", "lora_bias", "bias", "modules_to_save", "target_parameters",
                                     "trainable_token_indices", "layer_replication", "megatron_config",
                                     "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config"})
    if (const JsonValue* value = root.find(key); value != nullptr && !is_plain(*value))
      out.push_back(concat(key, " is ", json_text(*value)));
}

/// Reads the text of an adapter_config.json. Throws `load_error{bad_file}` for what is not one, for a rank or
/// alpha that is no positive (alpha: finite) number, and `error{unsupported}` for a pattern that cannot be
/// read.
[[nodiscard]] inline PeftConfig parse_peft_config(std::string_view text, const std::string& path) {
  const auto refuse = [&path](std::string_view key, std::string_view expected, const JsonValue& got) {
    throw load_error(ErrorCode::bad_file,
                     concat(path, ": ", key, ": expected ", expected, ", got ", json_text(got)),
                     {.file = path, .key = std::string(key)});
  };
  const auto read_rank = [&](std::string_view key, const JsonValue& value) {
    const std::int64_t rank = value.integer(concat(path, ": ", key));
    if (rank <= 0) refuse(key, "a rank of at least 1", value);
    return rank;
  };
  const JsonValue root = parse_json(text, {.file = path});
  PeftConfig config;
  if (const JsonValue& type = root.at("peft_type", path); type.string(concat(path, ": peft_type")) != "LORA")
    refuse("peft_type", "\"LORA\"", type);
  config.rank = read_rank("r", root.at("r", path));
  config.alpha = root.at("lora_alpha", path).number(concat(path, ": lora_alpha"));
  if (const JsonValue* value = root.find("use_rslora"); value != nullptr && !value->is_null())
    config.rank_stabilised = value->boolean(concat(path, ": use_rslora"));
  if (const JsonValue* patterns = root.find("rank_pattern"); patterns != nullptr && !patterns->is_null())
    for (const auto& [key, value] : patterns->object(concat(path, ": rank_pattern")))
      config.ranks.push_back({Pattern(key), read_rank(key, value)});
  if (const JsonValue* patterns = root.find("alpha_pattern"); patterns != nullptr && !patterns->is_null())
    for (const auto& [key, value] : patterns->object(concat(path, ": alpha_pattern")))
      config.alphas.push_back({Pattern(key), value.number(concat(path, ": ", key))});
  find_unsupported(root, config.unsupported);
  return config;
}

} // namespace tenon

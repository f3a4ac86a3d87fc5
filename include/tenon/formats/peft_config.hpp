// SPDX-License-Identifier: Apache-2.0
// PEFT's adapter_config.json: the method, and what decides an adapter's scale. Per module, rank r and alpha
// come from rank_pattern and alpha_pattern (the first key in the file's order whose regular expression
// matches the end of the module's path), else from r and lora_alpha (LoHa and LoKr: alpha). scale = alpha /
// r, or alpha / sqrt(r) for rsLoRA (Kalajdzievski 2023, arXiv 2312.03732). diffusers writes the same object
// into a safetensors header, its keys after a component's name: `transformer.r`.
#pragma once

#include <tenon/core/json.hpp>
#include <tenon/formats/pattern.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

/// `peft_type`: the method, which decides what the tensors are.
enum class PeftType : std::uint8_t { lora, loha, lokr, ia3, oft, boft, vera, glora };

[[nodiscard]] constexpr std::string_view peft_type_name(PeftType type) noexcept {
  constexpr std::string_view names[] = {"LORA", "LOHA", "LOKR", "IA3", "OFT", "BOFT", "VERA", "GLORA"};
  return names[static_cast<std::size_t>(type)];
}

/// A key of rank_pattern or alpha_pattern and its value.
template <class Value>
struct ModulePattern {
  Pattern pattern;
  Value value;
};

struct PeftConfig {
  PeftType type = PeftType::lora;
  bool is_dora = false;                   ///< each module has a magnitude vector
  bool fan_in_fan_out = false;            ///< weights are stored [in, out], as GPT-2's
  std::vector<std::string> feedforward{}; ///< IA3: modules whose input is multiplied, not their output
  bool constrained = false;               ///< OFT: coft
  double constraint = 0;                  ///< OFT: eps
  std::int64_t neumann_terms =
      0; ///< OFT: of the series that stands for the Cayley transform; 0: the transform
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
  /// Whether IA3 multiplies the module's input.
  [[nodiscard]] bool is_feedforward(std::string_view module) const {
    for (const std::string& name : feedforward)
      if (module == name || (module.ends_with(name) && module[module.size() - name.size() - 1] == '.'))
        return true;
    return false;
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
  for (const std::string_view key :
       {"target_parameters", "trainable_token_indices", "layer_replication", "megatron_config",
        "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config"})
    if (const JsonValue* value = root.find(key); value != nullptr && !is_plain(*value))
      out.push_back(concat(key, " is ", json_text(*value)));
}

/// Reads one configuration; `path` is named in messages.
class PeftConfigReader {
 public:
  PeftConfigReader(const JsonValue& root, const std::string& path) : root_(root), path_(path) {}

  [[nodiscard]] PeftConfig read() {
    PeftConfig config;
    config.type = read_type();
    const bool has_rank = config.type == PeftType::lora || config.type == PeftType::loha ||
                          config.type == PeftType::lokr || config.type == PeftType::vera;
    if (has_rank) config.rank = rank("r", root_.at("r", path_));
    if (has_rank && config.type != PeftType::vera) {
      const std::string_view key = config.type == PeftType::lora ? "lora_alpha" : "alpha";
      config.alpha = root_.at(key, path_).number(what(key));
    }
    config.rank_stabilised = is_on("use_rslora");
    config.is_dora = is_on("use_dora");
    config.fan_in_fan_out = is_on("fan_in_fan_out");
    config.constrained = is_on("coft");
    if (const JsonValue* value = given("eps")) config.constraint = value->number(what("eps"));
    if (is_on("use_cayley_neumann"))
      config.neumann_terms =
          root_.at("num_cayley_neumann_terms", path_).integer(what("num_cayley_neumann_terms"));
    if (const JsonValue* patterns = given("rank_pattern"); patterns != nullptr && has_rank)
      for (const auto& [key, value] : patterns->object(what("rank_pattern")))
        config.ranks.push_back({Pattern(key), rank(key, value)});
    if (const JsonValue* patterns = given("alpha_pattern"))
      for (const auto& [key, value] : patterns->object(what("alpha_pattern")))
        config.alphas.push_back({Pattern(key), value.number(what(key))});
    if (const JsonValue* names = given("feedforward_modules");
        names != nullptr && config.type == PeftType::ia3)
      for (const JsonValue& name : names->array(what("feedforward_modules")))
        config.feedforward.push_back(name.string(what("feedforward_modules")));
    find_unsupported(root_, config.unsupported);
    return config;
  }

 private:
  [[noreturn]] void refuse(std::string_view key, std::string_view expected, const JsonValue& got) const {
    throw load_error(ErrorCode::bad_file,
                     concat(path_, ": ", key, ": expected ", expected, ", got ", json_text(got)),
                     {.file = path_, .key = std::string(key)});
  }
  [[nodiscard]] std::string what(std::string_view key) const { return concat(path_, ": ", key); }
  [[nodiscard]] const JsonValue* given(std::string_view key) const {
    const JsonValue* const value = root_.find(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  [[nodiscard]] bool is_on(std::string_view key) const {
    const JsonValue* const value = given(key);
    return value != nullptr && value->boolean(what(key));
  }
  [[nodiscard]] std::int64_t rank(std::string_view key, const JsonValue& value) const {
    const std::int64_t rank = value.integer(what(key));
    if (rank <= 0) refuse(key, "a rank of at least 1", value);
    return rank;
  }
  [[nodiscard]] PeftType read_type() const {
    const JsonValue& type = root_.at("peft_type", path_);
    const std::string& name = type.string(what("peft_type"));
    for (int i = 0; i <= static_cast<int>(PeftType::glora); ++i)
      if (name == peft_type_name(static_cast<PeftType>(i))) return static_cast<PeftType>(i);
    refuse("peft_type", "\"LORA\", \"LOHA\", \"LOKR\", \"IA3\", \"OFT\", \"BOFT\", \"VERA\" or \"GLORA\"",
           type);
  }

  const JsonValue& root_;
  const std::string& path_;
};

/// Reads the text of an adapter_config.json. Throws `load_error{bad_file}` for what is not one, for a rank or
/// alpha that is no positive (alpha: finite) number, and `error{unsupported}` for a pattern that cannot be
/// read.
[[nodiscard]] inline PeftConfig parse_peft_config(std::string_view text, const std::string& path) {
  const JsonValue root = parse_json(text, {.file = path});
  return PeftConfigReader(root, path).read();
}

/// The configuration of a component (`transformer`, `unet`, `text_encoder` ...) in diffusers' header entry
/// `lora_adapter_metadata`, whose keys begin with it and a dot; keys without one are for a file of one model
/// (`save_lora_adapter`), whose names have no component either.
struct ComponentConfig {
  std::string prefix;
  PeftConfig config;
};

/// What stands before the first dot; nothing where there is none.
[[nodiscard]] inline std::string component_of_setting(const std::string& key) {
  const std::size_t dot = key.find('.');
  return dot == std::string::npos ? std::string() : key.substr(0, dot);
}

/// All of them. Throws as `parse_peft_config`.
[[nodiscard]] inline std::vector<ComponentConfig> parse_component_configs(std::string_view text,
                                                                          const std::string& path) {
  const JsonValue root = parse_json(text, {.file = path});
  std::vector<std::string> prefixes;
  for (const auto& [key, value] : root.object(path)) {
    const std::string component = component_of_setting(key);
    bool is_known = component.empty() && key != "r"; // other entries of a header say nothing
    for (const std::string& known : prefixes) is_known = is_known || component == known;
    if (!is_known) prefixes.push_back(component);
  }
  std::vector<ComponentConfig> out;
  for (const std::string& prefix : prefixes) {
    JsonValue object;
    object.kind = JsonKind::object;
    for (const auto& [key, value] : root.members)
      if (component_of_setting(key) == prefix)
        object.members.push_back({prefix.empty() ? key : key.substr(prefix.size() + 1), value});
    if (object.find("peft_type") == nullptr) {
      JsonValue type;
      type.kind = JsonKind::string;
      type.text = peft_type_name(PeftType::lora);
      object.members.push_back({"peft_type", std::move(type)});
    }
    out.push_back({prefix, PeftConfigReader(object, path).read()});
  }
  return out;
}

} // namespace tenon

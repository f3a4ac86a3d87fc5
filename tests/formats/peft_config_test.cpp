// SPDX-License-Identifier: Apache-2.0
#include <tenon/formats/peft_config.hpp>

#include <doctest/doctest.h>

using namespace tenon;

namespace {

PeftConfig parse(std::string_view members) {
  return parse_peft_config(concat("{\"peft_type\": \"LORA\"", members.empty() ? "" : ", ", members, "}"),
                           "c.json");
}

} // namespace

TEST_CASE("The scale is alpha over rank and for rsLoRA over its root") {
  const PeftConfig plain = parse(R"("r": 16, "lora_alpha": 8)");
  CHECK(plain.scale_of("a.b") == 0.5);
  const PeftConfig stabilised = parse(R"("r": 16, "lora_alpha": 8, "use_rslora": true)");
  CHECK(stabilised.scale_of("a.b") == 2.0);
}

TEST_CASE("Patterns give modules their own rank and alpha and the first in the file's order wins") {
  const PeftConfig config = parse(R"("r": 4, "lora_alpha": 8, "rank_pattern": {"b": 2, "a.b": 16},
                                     "alpha_pattern": {"^a.b": 1, "q_proj": 32})");
  CHECK(config.rank_of("a.b") == 2);
  CHECK(config.rank_of("a.c") == 4);
  CHECK(config.alpha_of("a.b") == 1);
  CHECK(config.alpha_of("x.a.b") == 8);
  CHECK(config.scale_of("layers.3.q_proj") == 8.0);
}

TEST_CASE("A null pattern or an unknown setting changes nothing") {
  const PeftConfig config = parse(R"("r": 4, "lora_alpha": 4, "rank_pattern": null, "new_setting": {"x": 1},
                                     "use_dora": false, "bias": "none", "modules_to_save": null)");
  CHECK(config.scale_of("a") == 1.0);
  CHECK(config.unsupported.empty());
}

TEST_CASE("Settings that change the result and are not supported are listed") {
  const PeftConfig config = parse(R"("r": 4, "lora_alpha": 4, "use_qalora": true,
                                     "target_parameters": ["x"])");
  CHECK(config.unsupported ==
        std::vector<std::string>{"target_parameters is an array of 1", "use_qalora is true"});
}

TEST_CASE("Every method has its own settings") {
  const auto read = [](std::string_view text) { return parse_peft_config(text, "c.json"); };
  const PeftConfig loha = read(R"({"peft_type": "LOHA", "r": 4, "alpha": 2, "alpha_pattern": {"x": 8}})");
  CHECK(loha.type == PeftType::loha);
  CHECK(loha.scale_of("a") == 0.5);
  CHECK(loha.scale_of("a.x") == 2.0);
  const PeftConfig ia3 = read(R"({"peft_type": "IA3", "feedforward_modules": ["ff.2"]})");
  CHECK(ia3.is_feedforward("blocks.0.ff.2"));
  CHECK(ia3.is_feedforward("ff.2"));
  CHECK_FALSE(ia3.is_feedforward("buff.2"));
  const PeftConfig oft = read(R"({"peft_type": "OFT", "r": 0, "oft_block_size": 4, "coft": true, "eps": 6e-5,
                                  "use_cayley_neumann": true, "num_cayley_neumann_terms": 5})");
  CHECK(oft.constrained);
  CHECK(oft.constraint == 6e-5);
  CHECK(oft.neumann_terms == 5);
}

TEST_CASE("A header's configurations are told apart by component") {
  const auto configs = parse_component_configs(
      R"({"transformer.r": 4, "transformer.lora_alpha": 8, "text_encoder.r": 2, "text_encoder.lora_alpha": 2})",
      "f");
  REQUIRE(configs.size() == 2);
  CHECK(configs[0].prefix == "transformer");
  CHECK(configs[0].config.scale_of("a") == 2.0);
  CHECK(configs[1].config.scale_of("a") == 1.0);
}

TEST_CASE("A header of one model alone has no component") {
  const auto configs =
      parse_component_configs(R"({"r": 4, "lora_alpha": 6, "target_modules": ["to_q"]})", "f");
  REQUIRE(configs.size() == 1);
  CHECK(configs[0].prefix.empty());
  CHECK(configs[0].config.scale_of("a") == 1.5);
  CHECK(parse_component_configs(R"({"note": "no configuration"})", "f").empty());
}

TEST_CASE("What is not a LoRA configuration is refused with file and key") {
  CHECK_THROWS_WITH_AS(parse_peft_config(R"({"peft_type": "PREFIX"})", "c.json"),
                       "c.json: peft_type: expected \"LORA\", \"LOHA\", \"LOKR\", \"IA3\", \"OFT\", "
                       "\"BOFT\", \"VERA\" or \"GLORA\", got \"PREFIX\"",
                       load_error);
  CHECK_THROWS_WITH_AS(parse(R"("r": 0, "lora_alpha": 8)"), "c.json: r: expected a rank of at least 1, got 0",
                       load_error);
  CHECK_THROWS_WITH_AS(parse(R"("r": 2, "lora_alpha": 8, "rank_pattern": {"a": -1})"),
                       "c.json: a: expected a rank of at least 1, got -1", load_error);
  CHECK_THROWS_AS(parse(R"("r": 2)"), load_error);
  CHECK_THROWS_AS(parse(R"("r": "2", "lora_alpha": 8)"), load_error);
  CHECK_THROWS_AS(parse_peft_config("not json", "c.json"), load_error);
}

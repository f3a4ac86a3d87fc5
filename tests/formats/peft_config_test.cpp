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
  const PeftConfig config = parse(R"("r": 4, "lora_alpha": 4, "use_dora": true, "bias": "all",
                                     "modules_to_save": ["head"])");
  CHECK(config.unsupported ==
        std::vector<std::string>{"use_dora is true", "bias is \"all\"", "modules_to_save is an array of 1"});
}

TEST_CASE("What is not a LoRA configuration is refused with file and key") {
  CHECK_THROWS_WITH_AS(parse_peft_config(R"({"peft_type": "LOHA"})", "c.json"),
                       "c.json: peft_type: expected \"LORA\", got \"LOHA\"", load_error);
  CHECK_THROWS_WITH_AS(parse(R"("r": 0, "lora_alpha": 8)"), "c.json: r: expected a rank of at least 1, got 0",
                       load_error);
  CHECK_THROWS_WITH_AS(parse(R"("r": 2, "lora_alpha": 8, "rank_pattern": {"a": -1})"),
                       "c.json: a: expected a rank of at least 1, got -1", load_error);
  CHECK_THROWS_AS(parse(R"("r": 2)"), load_error);
  CHECK_THROWS_AS(parse(R"("r": "2", "lora_alpha": 8)"), load_error);
  CHECK_THROWS_AS(parse_peft_config("not json", "c.json"), load_error);
}

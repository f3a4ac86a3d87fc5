// SPDX-License-Identifier: Apache-2.0
#include <tenon/formats/peft_keys.hpp>

#include <doctest/doctest.h>

using namespace tenon;

namespace {

constexpr bool is(std::string_view key, std::string_view module, AdapterPart part) {
  const std::optional<AdapterKey> parsed = parse_peft_key(key);
  return parsed && parsed->module == module && parsed->part == part;
}

} // namespace

TEST_CASE("Keys are taken apart with and without an adapter's name") {
  static_assert(is("base_model.model.a.b.lora_A.weight", "a.b", AdapterPart::lora_a));
  static_assert(is("base_model.model.a.b.lora_B.weight", "a.b", AdapterPart::lora_b));
  static_assert(is("base_model.model.a.b.lora_A.default.weight", "a.b", AdapterPart::lora_a));
  static_assert(is("base_model.model.a.b.lora_B.my_adapter.weight", "a.b", AdapterPart::lora_b));
  static_assert(is("base_model.model.a.lora_magnitude_vector", "a", AdapterPart::dora_magnitude));
  static_assert(is("base_model.model.a.lora_magnitude_vector.weight", "a", AdapterPart::dora_magnitude));
  static_assert(is("base_model.model.a.lora_B.bias", "a", AdapterPart::lora_bias));
  static_assert(is("base_model.model.a.lora_embedding_A", "a", AdapterPart::embedding));
  static_assert(is("base_model.model.a.lora_embedding_B.default", "a", AdapterPart::embedding));
  static_assert(is("base_model.model.classifier.weight", "classifier.weight", AdapterPart::saved_module));
  static_assert(is("base_model.model.a.modules_to_save.default.weight", "a", AdapterPart::saved_module));
}

TEST_CASE("Names that only look like parts are modules") {
  static_assert(is("base_model.model.lora_A.proj.lora_A.weight", "lora_A.proj", AdapterPart::lora_a));
  static_assert(
      is("base_model.model.base_model.model.x.lora_B.weight", "base_model.model.x", AdapterPart::lora_b));
  static_assert(
      is("base_model.model.a.lora_Around.weight", "a.lora_Around.weight", AdapterPart::saved_module));
  static_assert(!parse_peft_key("lora_unet_a.lora_down.weight"));
  static_assert(!parse_peft_key("model.a.lora_A.weight"));
}

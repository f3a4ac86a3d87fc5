// SPDX-License-Identifier: Apache-2.0
#include "support/file_bytes.hpp"
#include "support/lora_pairs.hpp"
#include "support/temporary_folder.hpp"

#include <tenon/adapters/export.hpp>
#include <tenon/core/json.hpp>
#include <tenon/formats/peft_config.hpp>
#include <tenon/weights/safetensors.hpp>

#include <doctest/doctest.h>

#include <cmath>

using namespace tenon;
using namespace tenon::test;

namespace {

/// Two linears of the same rank and alpha, one of another rank, a convolution of another alpha.
LoraSet example() {
  LoraSet set;
  set.modules.push_back({.path = "block.0.q", .pair = random_pair(6, 8, 4, 0.5, 1)});
  set.modules.push_back({.path = "block.1.q", .pair = random_pair(6, 8, 4, 0.5, 2)});
  set.modules.push_back({.path = "q", .pair = random_pair(6, 8, 3, 2.0 / 3, 3)});
  set.modules.push_back({.path = "conv",
                         .target = LoraTarget::convolution,
                         .kernel = {3, 2},
                         .pair = random_pair(5, 4 * 6, 4, 0.1, 4)});
  return set;
}

std::vector<float> floats(const TensorView& view) {
  std::vector<float> out(static_cast<std::size_t>(view.size()));
  decode(view.dtype, view.data, view.size(), out.data());
  return out;
}

SafetensorsFile opened(const std::string& path) { return {path, process_ledger(), Category::adapter}; }

} // namespace

TEST_CASE("A PEFT folder has the factors as they are and a configuration that gives each module its scale") {
  const TemporaryFolder folder;
  const LoraSet set = example();
  for (const bool is_stabilised : {false, true}) {
    write_peft(folder.file("out"), set,
               {.config = {.base_model = "some/model",
                           .task_type = "CAUSAL_LM",
                           .is_rank_stabilised = is_stabilised}});
    const SafetensorsFile file = opened(folder.file("out/adapter_model.safetensors"));
    const std::string text = read_file(folder.file("out/adapter_config.json"));
    const PeftConfig config = parse_peft_config(text, "config");
    CHECK(config.unsupported.empty());
    CHECK(file.entries().size() == 8);
    for (const LoraModule& module : set.modules) {
      CAPTURE(module.path);
      const std::string name = "base_model.model." + module.path;
      CHECK(floats(file.at(name + ".lora_A.weight")) == module.pair.a);
      CHECK(floats(file.at(name + ".lora_B.weight")) == module.pair.b);
      CHECK(config.rank_of(module.path) == module.pair.rank);
      CHECK(config.scale_of(module.path) == doctest::Approx(module.pair.scale).epsilon(1e-15));
    }
    CHECK(file.at("base_model.model.conv.lora_A.weight").has_shape(std::vector<std::int64_t>{4, 4, 3, 2}));
    CHECK(file.at("base_model.model.conv.lora_B.weight").has_shape(std::vector<std::int64_t>{5, 4, 1, 1}));
    const JsonValue root = parse_json(text);
    CHECK(root.at("r", "").text == "4");
    CHECK(root.at("target_modules", "").items.size() == 4);
    CHECK(root.at("base_model_name_or_path", "").text == "some/model");
    CHECK(root.at("use_rslora", "").truth == is_stabilised);
    CHECK(root.at("rank_pattern", "").members.size() == 1);
    CHECK(root.at("rank_pattern", "").members[0].key == "^q"); // and not the q of the blocks
  }
}

TEST_CASE("An embedding's factors lie in a PEFT file as PEFT holds them, and biases beside B") {
  const TemporaryFolder folder;
  LoraSet set;
  set.modules.push_back(
      {.path = "emb", .target = LoraTarget::embedding, .pair = random_pair(11, 5, 2, 1, 1)});
  write_peft(folder.path(), set);
  {
    const SafetensorsFile file = opened(folder.file("adapter_model.safetensors"));
    const TensorView a = file.at("base_model.model.emb.lora_embedding_A");
    CHECK(a.has_shape(std::vector<std::int64_t>{2, 11}));
    CHECK(file.at("base_model.model.emb.lora_embedding_B").has_shape(std::vector<std::int64_t>{5, 2}));
    CHECK(floats(a)[1] == set.modules[0].pair.b[2]); // [0, 1] of A is [1, 0] of our B
  }
  set.modules[0] = {.path = "fc", .pair = random_pair(4, 3, 2, 0.5, 1, true)};
  set.modules.push_back({.path = "fc2", .pair = random_pair(4, 3, 2, 0.5, 1)});
  write_peft(folder.path(), set);
  const SafetensorsFile file = opened(folder.file("adapter_model.safetensors"));
  const std::vector<float> bias = floats(file.at("base_model.model.fc.lora_B.bias"));
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(bias[i] == 2 * set.modules[0].pair.bias[i]); // the reader's scale is a half
  CHECK(floats(file.at("base_model.model.fc2.lora_B.bias")) == std::vector<float>(4));
  CHECK(parse_json(read_file(folder.file("adapter_config.json"))).at("lora_bias", "").truth);
}

TEST_CASE("A kohya file has flattened names, an alpha for each module and kohya's metadata") {
  const TemporaryFolder folder;
  LoraSet sets[] = {example(), example()};
  sets[1].component = "text_encoder_2";
  sets[0].modules[0].pair.bias = {1, 2, 3, 4, 5, 6};
  sets[0].diffs.push_back({"norm_1.weight", Tensor({2}, {0.5F, 1})});
  sets[0].diffs.push_back({"norm_1.bias", Tensor({2}, {0.25F, 2})});
  const std::string path = folder.file("k.safetensors");
  write_kohya(path, sets, {.dtype = DType::bf16, .metadata = {{"ss_base_model_version", "sdxl_base_v1-0"}}});
  const SafetensorsFile file = opened(path);
  for (const std::string prefix : {"lora_unet_", "lora_te2_"}) {
    CHECK(file.at(prefix + "block_0_q.lora_down.weight").text() == "[4, 8] BF16");
    CHECK(file.at(prefix + "conv.lora_down.weight").text() == "[4, 4, 3, 2] BF16");
    CHECK(file.at(prefix + "conv.lora_up.weight").text() == "[5, 4, 1, 1] BF16");
    const TensorView alpha = file.at(prefix + "conv.alpha");
    CHECK(alpha.text() == "[] F32");
    CHECK(floats(alpha)[0] == 0.4F);
  }
  CHECK(floats(file.at("lora_unet_block_0_q.diff_b")) == sets[0].modules[0].pair.bias);
  CHECK(floats(file.at("lora_unet_norm_1.diff")) == std::vector<float>{0.5, 1});
  CHECK(floats(file.at("lora_unet_norm_1.diff_b")) == std::vector<float>{0.25, 2});
  for (std::size_t i = 0; i < 32; ++i) { // one rounding of each value
    const float a = sets[0].modules[0].pair.a[i];
    CHECK(floats(file.at("lora_unet_block_0_q.lora_down.weight"))[i] == f32_from_bf16(bf16_from_f32(a)));
  }
  CHECK(*file.header().metadata_value("ss_network_module") == "networks.lora");
  CHECK(*file.header().metadata_value("ss_network_dim") == "Dynamic");
  CHECK(*file.header().metadata_value("ss_base_model_version") == "sdxl_base_v1-0");
  LoraSet same = example();
  same.modules.resize(2);
  write_kohya(path, {&same, 1}, {.prefix = "lycoris"});
  const SafetensorsFile other = opened(path);
  CHECK(*other.header().metadata_value("ss_network_dim") == "4");
  CHECK(*other.header().metadata_value("ss_network_alpha") == "2");
  CHECK(other.find("lycoris_block_1_q.alpha"));
}

TEST_CASE(
    "A diffusers file has its component before each name, scales in B and the configuration in its header") {
  const TemporaryFolder folder;
  LoraSet set = example();
  set.component = "unet";
  set.modules[2].pair.bias = {1, 2, 3, 4, 5, 6};
  write_diffusers(folder.file("d.safetensors"), {&set, 1});
  const SafetensorsFile file = opened(folder.file("d.safetensors"));
  const JsonValue config = parse_json(*file.header().metadata_value("lora_adapter_metadata"));
  CHECK(config.at("unet.r", "").text == "4");
  CHECK(config.at("unet.lora_alpha", "").text == "4");
  CHECK(config.at("unet.alpha_pattern", "").members[0].value.text == "3");
  for (const LoraModule& module : set.modules) {
    const std::vector<float> b = floats(file.at(concat("unet.", module.path, ".lora_B.weight")));
    for (std::size_t i = 0; i < b.size(); ++i)
      CHECK(b[i] == static_cast<float>(module.pair.scale * static_cast<double>(module.pair.b[i])));
  }
  CHECK(floats(file.at("unet.q.lora_B.bias"))[5] == 6);
}

TEST_CASE("What a format has no place for is refused in a full sentence") {
  const TemporaryFolder folder;
  const std::string path = folder.file("x.safetensors");
  LoraSet set = example();
  CHECK_THROWS_WITH_AS(write_peft(path, LoraSet{}),
                       concat(path, ": expected an adapter of at least one module, got none").c_str(), error);
  set.component = "vae";
  CHECK_THROWS_WITH_AS(write_kohya(path, {&set, 1}),
                       "component vae: expected one of denoiser, unet, transformer, text_encoder, "
                       "text_encoder_2, text_encoder_3, "
                       "or a prefix for it, got neither",
                       error);
  set.component = "";
  set.diffs.push_back({"norm.weight", Tensor({2}, {1, 1})});
  CHECK_THROWS_WITH_AS(
      write_peft(path, set),
      "norm.weight: expected pairs alone, since a PEFT file has no place for the difference of a "
      "whole tensor, got 1; leave small tensors out, or write a kohya file",
      error);
  set.diffs[0].path = "norm.scale";
  CHECK_THROWS_WITH_AS(
      write_kohya(path, {&set, 1}),
      "norm.scale: expected a module's weight or bias, since a kohya file has no place for others, "
      "got neither",
      error);
  set.diffs.clear();
  set.modules[0].pair.a[3] = 70000;
  CHECK_THROWS_WITH_AS(write_peft(path, set, {.dtype = DType::f16}),
                       "base_model.model.block.0.q.lora_A.weight: expected values that F16 can hold, got "
                       "70000.000000; write BF16 or F32",
                       error);
  set.modules[0].pair.a[3] = NAN;
  CHECK_THROWS_WITH_AS(write_peft(path, set),
                       "base_model.model.block.0.q.lora_A.weight: expected values that F32 can hold, got nan",
                       error);
  set.modules[0].pair.a[3] = 1;
  CHECK_THROWS_WITH_AS(write_peft(path, set, {.dtype = DType::i32}),
                       "adapter file: expected F32, F16 or BF16 to write, got I32", error);
  set.modules[1].path = "block_0.q";
  CHECK_THROWS_WITH_AS(
      write_kohya(path, {&set, 1}),
      concat(path, ": lora_unet_block_0_q.alpha: expected each name once, got it twice").c_str(), error);
  set.modules[1].target = LoraTarget::embedding;
  CHECK_THROWS_WITH_AS(write_kohya(path, {&set, 1}),
                       "block_0.q: expected linears and convolutions, since a kohya file has no place for an "
                       "embedding's pair, got an embedding",
                       error);
}

TEST_CASE("Patterns for PEFT name one path and no other") {
  CHECK(exact_pattern("a.b-c[0]+(d)") == "^a\\.b-c\\[0\\]\\+\\(d\\)");
  const Pattern pattern(exact_pattern("blocks.1.q"));
  CHECK(pattern.matches_module("blocks.1.q"));
  CHECK(!pattern.matches_module("down.blocks.1.q"));
  CHECK(!pattern.matches_module("blocksX1.q"));
  CHECK(number_text(8) == "8");
  CHECK(number_text(0.1) == "0.1");
  CHECK(most_common(std::vector<int>{3, 4, 4, 3}) == 3);
}

TEST_CASE("Encoded tensors stand in the ledger until they are written") {
  const TemporaryFolder folder;
  Ledger ledger;
  write_peft(folder.path(), example(), {.dtype = DType::f16, .ledger = &ledger});
  CHECK(ledger.current().total() == 0);
  CHECK(ledger.peak()[Category::adapter] == 2 * (2 * (32 + 24) + (24 + 18) + (4 * 24 + 20)));
}

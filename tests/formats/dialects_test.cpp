// SPDX-License-Identifier: Apache-2.0
#include <tenon/formats/dialects.hpp>

#include <doctest/doctest.h>

using namespace tenon;

namespace {

/// "component|expert|module|part", or "-" for a key that is not of the dialect.
std::string parsed(std::string_view dialect, std::string_view key) {
  const std::optional<AdapterKey> found = parse_key(*find_dialect(dialect), key);
  if (!found) return "-";
  std::string out(found->component);
  out += "|";
  out += found->expert;
  out += "|";
  out += found->module;
  out += "|";
  out += adapter_part_name(found->part);
  return out;
}

} // namespace

TEST_CASE("PEFT keys are taken apart with and without an adapter's name") {
  const auto peft = [](std::string_view key) { return parsed("PEFT", key); };
  CHECK(peft("base_model.model.a.b.lora_A.weight") == "||a.b|LoRA A");
  CHECK(peft("base_model.model.a.b.lora_B.my_adapter.weight") == "||a.b|LoRA B");
  CHECK(peft("base_model.model.a.lora_magnitude_vector") == "||a|DoRA magnitude");
  CHECK(peft("base_model.model.a.lora_magnitude_vector.weight") == "||a|DoRA magnitude");
  CHECK(peft("base_model.model.a.lora_magnitude_vector.default.weight") == "||a|DoRA magnitude");
  CHECK(peft("base_model.model.a.lora_B.bias") == "||a|LoRA bias");
  CHECK(peft("base_model.model.a.lora_embedding_A") == "||a|embedding A");
  CHECK(peft("base_model.model.a.lora_embedding_B.default") == "||a|embedding B");
  CHECK(peft("base_model.model.classifier.weight") == "||classifier|a whole weight");
  CHECK(peft("base_model.model.a.modules_to_save.default.bias") == "||a|a whole bias");
  CHECK(peft("base_model.model.a.hada_w1_a") == "||a|LoHa w1_a");
  CHECK(peft("base_model.model.a.lokr_w2_b.name") == "||a|LoKr w2_b");
  CHECK(peft("base_model.model.a.ia3_l") == "||a|IA3 factor");
  CHECK(peft("base_model.model.a.oft_R.weight") == "||a|OFT R");
  CHECK(peft("base_model.model.a.boft_R") == "||a|BOFT R");
  CHECK(peft("base_model.model.a.vera_lambda_d") == "||a|VeRA lambda_d");
  CHECK(peft("base_model.vera_A") == "|||VeRA A");
  CHECK(peft("base_model.model.a.glora_A.Xd") == "||a|GLoRA A Xd");
  CHECK(peft("base_model.model.a.glora_B.my_style.Xu") == "||a|GLoRA B Xu");
  CHECK(peft("base_model.model.a.glora_C.zeros") == "||a|GLoRA C");
  CHECK(peft("base_model.model.a.glora_D.X") == "||a|GLoRA D");
  CHECK(peft("base_model.model.a.glora_E.default.X") == "||a|GLoRA E");
  CHECK(peft("base_model.model.a.glora_D.Xd") == "-");
}

TEST_CASE("Names that only look like parts are modules") {
  const auto peft = [](std::string_view key) { return parsed("PEFT", key); };
  CHECK(peft("base_model.model.lora_A.proj.lora_A.weight") == "||lora_A.proj|LoRA A");
  CHECK(peft("base_model.model.base_model.model.x.lora_B.weight") == "||base_model.model.x|LoRA B");
  CHECK(peft("base_model.model.a.lora_Around.weight") == "||a.lora_Around|a whole weight");
  CHECK(peft("base_model.model.weight.bias.lora_A.weight") == "||weight.bias|LoRA A");
  CHECK(peft("base_model.model.a.lora_A.a.weight") == "||a|LoRA A"); // an adapter named as the module
  CHECK(peft("base_model.model.lora_A.weight") == "||lora_A|a whole weight");
  CHECK(peft("base_model.model.norm.scale.weight") ==
        "||norm.scale|a whole weight"); // no adapter named weight
  CHECK(peft("base_model.model.a.diff.bias") == "||a.diff|a whole bias");
  CHECK(peft("lora_unet_a.lora_down.weight") == "-");
  CHECK(peft("model.a.lora_A.weight") == "-");
}

TEST_CASE("Each dialect says which part of a pipeline a key is for") {
  CHECK(parsed("kohya", "lora_unet_down_blocks_0_to_q.lora_down.weight") ==
        "denoiser||down_blocks_0_to_q|LoRA A");
  CHECK(parsed("kohya", "lora_te1_text_model_fc1.lora_up.weight") == "text_encoder||text_model_fc1|LoRA B");
  CHECK(parsed("kohya", "lora_te2_text_model_fc1.alpha") == "text_encoder_2||text_model_fc1|alpha");
  CHECK(parsed("kohya", "lora_te_text_model_fc1.dora_scale") ==
        "text_encoder||text_model_fc1|DoRA magnitude");
  CHECK(parsed("kohya", "lora_unet_x.lora_mid.weight") == "denoiser||x|LoRA core");
  CHECK(parsed("kohya", "lora_unet_x.oft_blocks") == "denoiser||x|OFT blocks");
  CHECK(parsed("LyCORIS", "lycoris_x.hada_t1") == "||x|LoHa t1");
  CHECK(parsed("LyCORIS", "lycoris_x.on_input") == "||x|IA3 on_input");
  CHECK(parsed("LyCORIS", "lycoris_x.a1.weight") == "||x|GLoRA a1");
  CHECK(parsed("diffusers", "transformer.blocks.0.attn1.to_q.lora_A.weight") ==
        "denoiser||blocks.0.attn1.to_q|LoRA A");
  CHECK(parsed("diffusers", "transformer_2.blocks.0.x.lora_A.weight") == "denoiser_2||blocks.0.x|LoRA A");
  CHECK(parsed("diffusers", "text_encoder.x.lora_linear_layer.up.weight") == "text_encoder||x|LoRA B");
  CHECK(parsed("ComfyUI", "diffusion_model.blocks.0.ffn.0.diff_b") == "denoiser||blocks.0.ffn.0|bias diff");
  CHECK(parsed("OMI", "clip_g.x.lora_down.weight") == "text_encoder_2||x|LoRA A");
  CHECK(parsed("plain paths", "blocks.0.self_attn.q.lora_A.default.weight") ==
        "||blocks.0.self_attn.q|LoRA A");
}

TEST_CASE("Old attention processors and XLabs name a module inside a processor") {
  CHECK(parsed("diffusers", "unet.mid.attn1.processor.to_out_lora.down.weight") ==
        "denoiser||mid.attn1.to_out.0|LoRA A");
  CHECK(parsed("diffusers", "text_encoder.l.0.self_attn.to_k_lora.up.weight") ==
        "text_encoder||l.0.self_attn.k_proj|LoRA B");
  CHECK(parsed("plain paths", "double_blocks.3.processor.qkv_lora2.up.weight") ==
        "||double_blocks.3.txt_attn.qkv|LoRA B");
  CHECK(parsed("plain paths", "single_blocks.3.processor.qkv_lora.down.weight") ==
        "||single_blocks.3.qkv|LoRA A");
}

TEST_CASE("An expert's tag is no part of the module's name") {
  CHECK(parsed("ComfyUI", "|high_noise|diffusion_model.blocks.0.x.lora_A.weight") ==
        "denoiser|high_noise|blocks.0.x|LoRA A");
  CHECK(parsed("ComfyUI", "diffusion_model.|low_noise|blocks.0.x.lora_A.weight") ==
        "denoiser|low_noise|blocks.0.x|LoRA A");
}

TEST_CASE("A checkpoint's own keys are no adapter's") {
  for (const Dialect& dialect : dialect_table)
    if (!dialect.has_whole_tensors) CHECK_FALSE(parse_key(dialect, "transformer.blocks.0.attn.to_q.weight"));
  CHECK(parsed("plain paths", "lora_A.weight") == "-");
  CHECK(parsed("kohya", "lora_unet_.lora_down.weight") == "-");
}

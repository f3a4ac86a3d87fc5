// SPDX-License-Identifier: Apache-2.0
// What LoadOptions chooses of a file: its dialect, one of its adapters, one component of a pipeline, one expert, and what
// a strength does to DoRA.
#include "support/file_bytes.hpp"
#include "support/files.hpp"
#include "support/temporary_folder.hpp"

#include <tenon/tenon.hpp>

#include <doctest/doctest.h>

#include <cmath>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Sequential<Linear<"fc1", 4, 6>, Linear<"fc2", 6, 4>>;

/// A file put together by hand.
struct File {
  TemporaryFolder folder{};
  RandomTensors tensors{1, DType::f32};

  void add_pair(const std::string& module, std::int64_t in, std::int64_t out,
                const std::string& a = "lora_A.weight", const std::string& b = "lora_B.weight",
                std::int64_t rank = 2) {
    tensors.add(module + "." + a, {rank, in});
    tensors.add(module + "." + b, {out, rank});
  }
  std::string write() {
    tensors.write(folder.file("adapter.safetensors"));
    return folder.file("adapter.safetensors");
  }
  std::string write_peft(std::string_view config) {
    tensors.write(folder.file("adapter_model.safetensors"));
    write_file(folder.file("adapter_config.json"), config);
    return folder.path();
  }
};

std::vector<std::string> slots_of(const Adapter<Net>& adapter) {
  std::vector<std::string> out;
  for (const MatchedSlot& slot : adapter.report().matched) out.push_back(slot.slot);
  return out;
}

std::string refusal(const std::string& path, const LoadOptions& options) {
  try {
    (void)load_adapter<Net>(path, options);
  } catch (const error& problem) {
    const std::string message = problem.what();
    return message.starts_with(path) ? message.substr(path.size() + 2) : message;
  }
  return "nothing was thrown";
}

using Names = std::vector<std::string>;

} // namespace

TEST_CASE("A dialect that is named is used instead of the one that the keys suggest") {
  File file;
  file.add_pair("transformer.fc1", 4, 6);
  const std::string path = file.write();
  CHECK(load_adapter<Net>(path).report().dialect == "diffusers");
  CHECK(load_adapter<Net>(path, {.dialect = "OMI"}).report().dialect == "OMI");
  CHECK(slots_of(load_adapter<Net>(path, {.dialect = "OMI"})) == Names{"fc1"});
  // for plain paths the prefix is part of a module's name, which the net does not have
  CHECK(refusal(path, {.dialect = "plain paths"}) ==
        "plain paths adapter, 0 slots matched, 1 finding; not one slot of this net is named in the file\n"
        "  unmatched key: transformer.fc1.lora_A.weight: the net has no slot transformer.fc1");
}

TEST_CASE("An unknown dialect is refused with those that there are") {
  File file;
  file.add_pair("fc1", 4, 6);
  CHECK(refusal(file.write(), {.dialect = "Kohya"}) == "load_adapter: expected a dialect among PEFT, kohya, "
                                                       "LyCORIS, diffusers, ComfyUI, OMI, plain paths, got "
                                                       "Kohya");
}

TEST_CASE("Of a file with several adapters one is loaded by its name") {
  File file;
  file.add_pair("base_model.model.fc1", 4, 6, "lora_A.calm.weight", "lora_B.calm.weight");
  file.add_pair("base_model.model.fc1", 4, 6, "lora_A.loud.weight", "lora_B.loud.weight");
  file.add_pair("base_model.model.fc2", 6, 4, "lora_A.loud.weight", "lora_B.loud.weight");
  const std::string path = file.write_peft(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4})");
  CHECK(slots_of(load_adapter<Net>(path, {.adapter_name = "calm"})) == Names{"fc1"});
  CHECK(slots_of(load_adapter<Net>(path, {.adapter_name = "loud"})) == Names{"fc1", "fc2"});
  CHECK(refusal(path, {}).find("the file has several adapters, calm and loud; choose one by its name") !=
        std::string::npos);
}

TEST_CASE("A name that no adapter of the file has is refused with those that there are") {
  File file;
  file.add_pair("base_model.model.fc1", 4, 6, "lora_A.calm.weight", "lora_B.calm.weight");
  file.add_pair("base_model.model.fc2", 6, 4, "lora_A.loud.weight", "lora_B.loud.weight");
  const std::string path = file.write_peft(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4})");
  const std::string message = refusal(path, {.adapter_name = "quiet"});
  CHECK(message.ends_with(
      "PEFT adapter, 0 slots matched, 1 finding; not one slot of this net is named in the file\n"
      "  unmatched key: quiet: expected the name of an adapter of this file, calm or loud"));
}

TEST_CASE("A file without names in its keys is loaded under any name") {
  File file;
  file.add_pair("base_model.model.fc1", 4, 6);
  const std::string path = file.write_peft(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4})");
  CHECK(slots_of(load_adapter<Net>(path, {.adapter_name = "calm"})) == Names{"fc1"});
}

TEST_CASE("Of a pipeline's file the net's component is loaded and the others are left") {
  File file;
  file.add_pair("lora_unet_fc1", 4, 6, "lora_down.weight", "lora_up.weight");
  file.add_pair("lora_te1_fc2", 6, 4, "lora_down.weight", "lora_up.weight");
  file.add_pair("lora_te2_text_model_fc9", 8, 8, "lora_down.weight", "lora_up.weight");
  const std::string path = file.write();
  CHECK(slots_of(load_adapter<Net>(path, {.component = "denoiser"})) == Names{"fc1"});
  CHECK(slots_of(load_adapter<Net>(path, {.component = "text_encoder"})) == Names{"fc2"});
  CHECK(refusal(path, {}) ==
        "kohya adapter, 2 slots matched, 1 finding\n"
        "  unmatched key: lora_te2_text_model_fc9.lora_down.weight: the net has no slot text_model_fc9; "
        "the key is for the text_encoder_2 of a pipeline: name the component that the net "
        "is, to "
        "leave the others");
}

TEST_CASE("A component that the file has nothing for is refused with what it has") {
  File file;
  file.add_pair("lora_te1_fc2", 6, 4, "lora_down.weight", "lora_up.weight");
  CHECK(refusal(file.write(), {.component = "denoiser"}) ==
        "kohya adapter, 0 slots matched, 1 finding; not one slot of this net is named in the file\n"
        "  other component: lora_te1_fc2.lora_down.weight: expected a module of the denoiser, got one of the "
        "text_encoder; the file has none for what was asked for");
}

TEST_CASE("Two components that name one slot are not added up") {
  File file;
  file.add_pair("text_encoder.fc1", 4, 6);
  file.add_pair("text_encoder_2.fc1", 4, 6);
  const std::string path = file.write();
  CHECK(refusal(path, {}) == "diffusers adapter, 1 slots matched, 1 finding\n"
                             "  duplicate: text_encoder_2.fc1.lora_A.weight: its slot already has "
                             "text_encoder.fc1.lora_A.weight; choose "
                             "the component text_encoder or text_encoder_2");
  for (const std::string_view component : {"text_encoder", "text_encoder_2"}) {
    const auto adapter = load_adapter<Net>(path, {.component = component});
    REQUIRE(adapter.data()->factors.size() == 1);
    const CheckpointTensor* const a = adapter.data()->file.find(concat(component, ".fc1.lora_A.weight"));
    CHECK(adapter.data()->factors[0].a.data == a->view.data);
  }
  // what is left out is not attached half or twice
  const auto reported = load_adapter<Net>(path, {.on_mismatch = OnMismatch::report});
  CHECK(reported.data()->factors.size() == 1);
}

TEST_CASE("Of a file for two experts the one that is asked for is loaded") {
  File file;
  file.add_pair("|high_noise|diffusion_model.fc1", 4, 6);
  file.add_pair("|low_noise|diffusion_model.fc1", 4, 6);
  file.add_pair("|low_noise|diffusion_model.fc2", 6, 4);
  const std::string path = file.write();
  CHECK(slots_of(load_adapter<Net>(path, {.expert = "high_noise"})) == Names{"fc1"});
  CHECK(slots_of(load_adapter<Net>(path, {.expert = "low_noise"})) == Names{"fc1", "fc2"});
  CHECK(refusal(path, {}).ends_with(
      "  duplicate: |low_noise|diffusion_model.fc1.lora_A.weight: its slot already has "
      "|high_noise|diffusion_model.fc1.lora_A.weight; choose the expert high_noise or low_noise"));
}

TEST_CASE("A key for both experts and one for one of them are not added up") {
  File file;
  file.add_pair("diffusion_model.fc1", 4, 6);
  file.add_pair("|low_noise|diffusion_model.fc1", 4, 6);
  const std::string path = file.write();
  CHECK(refusal(path, {}).ends_with(
      "  duplicate: |low_noise|diffusion_model.fc1.lora_A.weight: its slot already has "
      "diffusion_model.fc1.lora_A.weight"));
  CHECK(slots_of(load_adapter<Net>(path, {.expert = "high_noise"})) == Names{"fc1"});
}

TEST_CASE("An expert that the file has nothing for is refused with what it has") {
  File file;
  file.add_pair("|low_noise|diffusion_model.fc2", 6, 4);
  CHECK(
      refusal(file.write(), {.expert = "high_noise"}) ==
      "ComfyUI adapter, 0 slots matched, 1 finding; not one slot of this net is named in the file\n"
      "  other component: |low_noise|diffusion_model.fc2.lora_A.weight: expected a module of the high_noise "
      "expert, got one of the low_noise expert; the file has none for what was asked for");
}

TEST_CASE("Keys that name neither component nor expert are for any") {
  File file;
  file.add_pair("fc1", 4, 6);
  CHECK(slots_of(load_adapter<Net>(file.write(), {.component = "denoiser", .expert = "low_noise"})) ==
        Names{"fc1"});
}

TEST_CASE("What a strength does to DoRA follows the tool unless it is chosen") {
  const auto policy = [](const std::string& path, const LoadOptions& options) {
    return load_adapter<Net>(path, options).data()->deltas.at(0).dora_strength;
  };
  File peft;
  peft.add_pair("base_model.model.fc1", 4, 6);
  peft.tensors.add("base_model.model.fc1.lora_magnitude_vector", {6});
  const std::string from_peft =
      peft.write_peft(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_dora": true})");
  File lycoris;
  lycoris.add_pair("lora_unet_fc1", 4, 6, "lora_down.weight", "lora_up.weight");
  lycoris.tensors.add("lora_unet_fc1.dora_scale", {6, 1});
  const std::string from_lycoris = lycoris.write();
  CHECK(policy(from_peft, {}) == DoraStrength::peft);
  CHECK(policy(from_lycoris, {}) == DoraStrength::lycoris);
  for (const DoraStrength chosen : {DoraStrength::peft, DoraStrength::lycoris, DoraStrength::comfy}) {
    CHECK(policy(from_peft, {.dora_strength = chosen}) == chosen);
    CHECK(policy(from_lycoris, {.dora_strength = chosen}) == chosen);
  }
}

TEST_CASE("Each strength of DoRA is its formula and at one they agree") {
  File file;
  file.add_pair("lora_unet_fc1", 4, 6, "lora_down.weight", "lora_up.weight");
  file.tensors.add("lora_unet_fc1.dora_scale", {6, 1});
  const std::string path = file.write();
  write_checkpoint<Net>(file.folder.file("model.safetensors"));
  const auto model = open<Net>(file.folder.file("model.safetensors"));
  Session session(model);
  const auto merged_with = [&](DoraStrength policy, double strength) {
    const auto adapter = load_adapter<Net>(path, {.dora_strength = policy});
    const Guard guard = session.attach<merged>(adapter, strength);
    const auto* values = reinterpret_cast<const float*>(session.slot_weight(0).data);
    return std::vector<double>(values, values + 24);
  };
  const auto adapter = load_adapter<Net>(path);
  const SlotDelta& delta = adapter.data()->deltas.at(0);
  const auto* a = reinterpret_cast<const float*>(delta.term.first.right.data);
  const auto* b = reinterpret_cast<const float*>(delta.term.first.left.data);
  const auto* m = reinterpret_cast<const float*>(delta.vector.data);
  const auto* w = reinterpret_cast<const float*>(model.weights()[0].data);
  for (const double s : {1.0, 0.5, -0.75}) {
    CAPTURE(s);
    const auto peft = merged_with(DoraStrength::peft, s);
    const auto lycoris = merged_with(DoraStrength::lycoris, s);
    const auto comfy = merged_with(DoraStrength::comfy, s);
    for (std::size_t i = 0; i < 6; ++i) {
      double inside[4]; // W + s D
      double whole[4];  // W + D
      double inside_norm = 0;
      double whole_norm = 0;
      for (std::size_t j = 0; j < 4; ++j) {
        const double base = static_cast<double>(w[i * 4 + j]);
        double d = 0;
        for (std::size_t k = 0; k < 2; ++k)
          d += static_cast<double>(b[i * 2 + k]) * static_cast<double>(a[k * 4 + j]);
        inside[j] = base + s * d;
        whole[j] = base + d;
        inside_norm += inside[j] * inside[j];
        whole_norm += whole[j] * whole[j];
      }
      const double magnitude = static_cast<double>(m[i]);
      const double gain = magnitude / std::sqrt(whole_norm);
      for (std::size_t j = 0; j < 4; ++j) {
        const double base = static_cast<double>(w[i * 4 + j]);
        constexpr double tolerance = 1e-6; // float sums of values below 1
        CHECK(std::abs(peft[i * 4 + j] - magnitude / std::sqrt(inside_norm) * inside[j]) < tolerance);
        CHECK(std::abs(lycoris[i * 4 + j] - (s * (gain - 1) + 1) * whole[j]) < tolerance);
        CHECK(std::abs(comfy[i * 4 + j] - (base + s * (gain * whole[j] - base))) < tolerance);
      }
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
// Flux against diffusers' class: names, shapes and slots at released size; values, wires inside and an adapter at a small
// one (tests/goldens/README.md).
#include "support/bf16_models.hpp"
#include "support/model_goldens.hpp"
#include "support/plan_check.hpp"
#include "support/slot_counts.hpp"
#include "support/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <tenon/models/flux.hpp>
#include <tenon/weights/safetensors_writer.hpp>

using namespace tenon;
using namespace tenon::models;
using namespace tenon::test;

namespace {

constexpr FluxSize small_flux{16, 2, 2, {2, 10}, 20, 18, {2, 4, 4}};

using Released = Flux<flux_1>;
// What a trainer's default targets are, and all linears of the blocks but those of the modulations.
constexpr std::array<std::string_view, 12> default_targets{"attn.to_q",
                                                           "attn.to_k",
                                                           "attn.to_v",
                                                           "attn.to_out.0",
                                                           "attn.add_q_proj",
                                                           "attn.add_k_proj",
                                                           "attn.add_v_proj",
                                                           "attn.to_add_out",
                                                           "ff.net.0.proj",
                                                           "ff.net.2",
                                                           "ff_context.net.0.proj",
                                                           "ff_context.net.2"};
static_assert(runs_on_device<Released>);
static_assert(slots_named<Released>(default_targets) == 342);
static_assert(slots_named<Released>(default_targets) + slots_named<Released>({"proj_mlp"}) +
                  slots_named<Released>({"single_transformer_blocks.*.proj_out"}) +
                  slots_named<Released>({"norm1.linear", "norm1_context.linear", "norm.linear"}) ==
              494);
static_assert(parameter_count<Released> == 11'901'408'320);

/// The net up to the end of its first `Layers` double blocks.
template <FluxSize S, std::int64_t Layers, std::int64_t D = S.width()>
using DoubleBlocks = Graph<
    Inputs<"image", "text", "pooled", "timestep", "guidance", "text_places", "image_places">,
    Let<"steer", Scope<"time_text_embed", FluxGuidedSteering<S>>, "timestep", "guidance", "pooled">,
    LetAll<Outputs<"x", "words", "places">, FluxStart<S>, "image", "text", "text_places", "image_places">,
    LetAll<Outputs<"x2", "words2">, Repeat<"transformer_blocks", Layers, FluxDoubleBlock<S>>, "x", "words",
           "steer", "places">,
    Outputs<"x2", "words2">>;

template <class Net, class Checks>
void with_inputs(const ModelGoldens& goldens, Session<Net>& session, Checks checks) {
  (void)session.run(goldens.at("hidden_states"), goldens.at("encoder_hidden_states"),
                    goldens.at("pooled_projections"), goldens.at("timestep"), goldens.at("guidance"),
                    goldens.at("txt_ids"), goldens.at("img_ids"));
  checks();
}

} // namespace

TEST_CASE("Flux asks for the tensors of the released checkpoint") {
  std::vector<std::string> names = names_of_release("flux_dev");
  CHECK(names_of_net<Released>() == names);
  std::erase_if(names,
                [](const std::string& name) { return name.find("guidance_embedder") != std::string::npos; });
  CHECK(names_of_net<FluxUnguided<flux_1>>() == names); // schnell
}

TEST_CASE("Flux computes what diffusers does, with and without a LoRA of its trainers") {
  const ModelGoldens goldens("flux");
  using Net = Flux<small_flux>;
  const auto model = open<Net>(goldens.model());
  CHECK(model.unused_names().empty());
  Session session(model);
  const auto check = [&](const char* key) {
    with_inputs(goldens, session,
                [&] { CHECK(difference(session.output(0), goldens.at(key)) < model_tolerance); });
  };
  check("output");
  const auto adapter = load_adapter<Net>(goldens.folder + "pytorch_lora_weights.safetensors");
  {
    const auto guard = session.attach(adapter);
    check("adapted.output");
  }
  {
    const auto guard = session.attach<merged>(adapter);
    check("merged.output");
  }
  check("output");
}

TEST_CASE("The first double blocks give diffusers' image and text") {
  const ModelGoldens goldens("flux");
  using Net = DoubleBlocks<small_flux, 1>;
  const auto model = open<Net>(goldens.model());
  Session session(model);
  with_inputs(goldens, session, [&] {
    CHECK(difference(session.output(0), goldens.at("wire.transformer_blocks.0.1")) < model_tolerance);
    CHECK(difference(session.output(1), goldens.at("wire.transformer_blocks.0.0")) < model_tolerance);
  });
}

TEST_CASE("Activations grow with tokens and not with their square") {
  const std::int64_t few = activation_bytes<Released>({.tokens = 1024, .context = 512});
  const std::int64_t many = activation_bytes<Released>({.tokens = 8192, .context = 4096});
  CHECK(many <= 8 * few + 64 * 1024);
}

TEST_CASE(
    "With BF16 weights Flux computes what diffusers does in float64, and in bfloat16 within its rounding") {
  check_bf16<Flux<small_flux>>("flux", {"hidden_states", "encoder_hidden_states", "pooled_projections",
                                        "timestep", "guidance", "txt_ids", "img_ids"});
}

TEST_CASE("An adapter that widens the input is refused by name") {
  const TemporaryFolder folder;
  const std::vector<float> a(4 * 32, 0.5f); // the net has 16 channels
  const std::vector<float> b(static_cast<std::size_t>(small_flux.width()) * 4, 0.5f);
  const std::array<std::int64_t, 2> of_a{4, 32};
  const std::array<std::int64_t, 2> of_b{small_flux.width(), 4};
  const std::array<NamedTensor, 2> tensors{
      {{"transformer.x_embedder.lora_A.weight", TensorView(a.data(), DType::f32, of_a)},
       {"transformer.x_embedder.lora_B.weight", TensorView(b.data(), DType::f32, of_b)}}};
  write_safetensors(folder.file("control.safetensors"), tensors);
  const auto adapter =
      load_adapter<Flux<small_flux>>(folder.file("control.safetensors"), {.on_mismatch = OnMismatch::report});
  REQUIRE(adapter.report().findings.size() == 1);
  CHECK(adapter.report().matched.empty());
  CHECK(adapter.report().findings[0].kind == FindingKind::refused_kind);
  CHECK(adapter.report().findings[0].key == "transformer.x_embedder.lora_A.weight");
  CHECK(adapter.report().findings[0].what.starts_with("it widens the layer's input from 16 to 32 "));
}

TEST_CASE("The plan of buffers is near the least possible") {
  constexpr Dims dims{.tokens = 4096, .context = 512};
  check_plan_of<Released>(dims, 432);
  PlanVectors vectors(program_of<Released>()); // in the order in which they are taken there are gaps
  CHECK(plan_in_order(program_of<Released>(), dims, vectors.room()).total / MiB == 594);
}

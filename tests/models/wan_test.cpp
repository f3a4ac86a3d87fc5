// SPDX-License-Identifier: Apache-2.0
// Wan 2.1 against diffusers' class: names, shapes and slots at released size; values, wires inside and adapters at a small
// one (tests/goldens/README.md).
#include "support/bf16_models.hpp"
#include "support/model_goldens.hpp"
#include "support/plan_check.hpp"
#include "support/slot_counts.hpp"

#include <doctest/doctest.h>

#include <tenon/models/wan.hpp>

using namespace tenon;
using namespace tenon::models;
using namespace tenon::test;

namespace {

constexpr WanSize small_t2v{2, {2, 14}, 56, 4, 4, 12, 0, 64};
constexpr WanSize small_i2v{2, {2, 14}, 56, 12, 4, 12, 10, 64};

constexpr std::array<std::string_view, 8> of_blocks{
    "to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj", "ffn.net.0.proj", "ffn.net.2"};
static_assert(runs_on_device<WanImageToVideo<wan21_i2v_14b>>);
static_assert(slots_named<WanTextToVideo<wan21_t2v_14b>>(of_blocks) == 400);
static_assert(slots_named<WanImageToVideo<wan21_i2v_14b>>(of_blocks) == 480);
static_assert(slots_named<WanTextToVideo<wan21_t2v_13b>>(of_blocks) == 300);
static_assert(parameter_count<WanTextToVideo<wan21_t2v_14b>> == 14'288'491'584);
static_assert(parameter_count<WanTextToVideo<wan21_t2v_13b>> == 1'418'996'800);

/// The net up to the end of its first `Layers` blocks.
template <WanSize S, std::int64_t Layers, std::int64_t D = S.width()>
using FirstBlocks =
    Graph<Inputs<"video", "timestep", "text">, Let<"patches", WanPatches<S>, "video">,
          Let<"time", TimeEmbedding<"condition_embedder.time_embedder", S.features, D>, "timestep">,
          Let<"steer", Silu, "time">, Let<"m", Linear<"condition_embedder.time_proj", D, 6 * D>, "steer">,
          Let<"words", WanText<S>, "text">,
          Let<"moved", Repeat<"blocks", Layers, WanTextBlock<S>>, "patches", "m", "words">,
          Outputs<"moved", "time", "m", "words">>;

} // namespace

TEST_CASE("Wan asks for the tensors of the released checkpoints") {
  CHECK(names_of_net<WanTextToVideo<wan21_t2v_14b>>() == names_of_release("wan21_t2v_14b"));
  CHECK(names_of_net<WanTextToVideo<wan21_t2v_13b>>() == names_of_release("wan21_t2v_13b"));
  CHECK(names_of_net<WanImageToVideo<wan21_i2v_14b>>() == names_of_release("wan21_i2v_14b"));
}

template <class Net>
void check_values() {
  constexpr bool has_picture = Net::inputs == 4;
  const ModelGoldens goldens(has_picture ? "wan_i2v" : "wan_t2v");
  const auto model = open<Net>(goldens.model());
  CHECK(model.unused_names().empty());
  Session session(model);
  const auto run = [&] {
    if constexpr (has_picture)
      return session.run(goldens.at("hidden_states"), goldens.at("timestep"),
                         goldens.at("encoder_hidden_states"), goldens.at("encoder_hidden_states_image"));
    else
      return session.run(goldens.at("hidden_states"), goldens.at("timestep"),
                         goldens.at("encoder_hidden_states"));
  };
  CHECK(difference(run(), goldens.at("output")) < model_tolerance);
  const auto adapter = load_adapter<Net>(goldens.folder + "pytorch_lora_weights.safetensors");
  {
    const auto guard = session.attach(adapter);
    CHECK(difference(run(), goldens.at("adapted.output")) < model_tolerance);
  }
  {
    const auto guard = session.template attach<merged>(adapter);
    CHECK(difference(run(), goldens.at("merged.output")) < model_tolerance);
  }
  CHECK(difference(run(), goldens.at("output")) < model_tolerance);
}
TEST_CASE("Wan computes what diffusers does, with and without a LoRA") {
  check_values<WanTextToVideo<small_t2v>>();
  check_values<WanImageToVideo<small_i2v>>();
}

template <class Net>
void check_blocks() {
  const ModelGoldens goldens("wan_t2v");
  const auto model = open<Net>(goldens.model());
  Session session(model);
  const bool is_one = std::is_same_v<Net, FirstBlocks<small_t2v, 1>>;
  CHECK(difference(session.run(goldens.at("hidden_states"), goldens.at("timestep"),
                               goldens.at("encoder_hidden_states")),
                   goldens.at(is_one ? "wire.blocks.0" : "wire.blocks.1")) < model_tolerance);
  CHECK(difference(session.output(1), goldens.at("wire.condition_embedder.0")) < model_tolerance);
  CHECK(difference(session.output(2), goldens.at("wire.condition_embedder.1")) < model_tolerance);
  CHECK(difference(session.output(3), goldens.at("wire.condition_embedder.2")) < model_tolerance);
}
TEST_CASE("Each block gives diffusers' wire") {
  check_blocks<FirstBlocks<small_t2v, 1>>();
  check_blocks<FirstBlocks<small_t2v, 2>>();
}

TEST_CASE("A video of odd height is refused in a sentence") {
  const ModelGoldens goldens("wan_t2v");
  const auto model = open<WanTextToVideo<small_t2v>>(goldens.model());
  Session session(model);
  const Tensor video({1, 4, 1, 5, 6});
  CHECK_THROWS_AS((void)session.run(video, Tensor({1}, {3}), Tensor({1, 2, 12})), shape_error);
}

TEST_CASE(
    "With BF16 weights Wan computes what diffusers does in float64, and in bfloat16 within its rounding") {
  check_bf16<WanTextToVideo<small_t2v>>("wan_t2v", {"hidden_states", "timestep", "encoder_hidden_states"});
  check_bf16<WanImageToVideo<small_i2v>>(
      "wan_i2v", {"hidden_states", "timestep", "encoder_hidden_states", "encoder_hidden_states_image"});
}

TEST_CASE("The plan of buffers is near the least possible") {
  check_plan_of<WanTextToVideo<wan21_t2v_14b>>({.context = 512, .frames = 21, .height = 60, .width = 104},
                                               4315);
  check_plan_of<WanImageToVideo<wan21_i2v_14b>>(
      {.context = 512, .image = 257, .frames = 21, .height = 60, .width = 104});
}

// SPDX-License-Identifier: Apache-2.0
// Stable Diffusion 3 and 3.5 against diffusers' class: names, shapes and slots at released size; values and adapters at a
// small one (tests/goldens/README.md).
#include "support/bf16_models.hpp"
#include "support/model_goldens.hpp"
#include "support/plan_check.hpp"
#include "support/slot_counts.hpp"

#include <doctest/doctest.h>

#include <tenon/models/sd3.hpp>

using namespace tenon;
using namespace tenon::models;
using namespace tenon::test;

namespace {

constexpr Sd3Size small_sd3{4, 3, {2, 8}, 12, 10, 6};
constexpr Sd3Size small_sd35{4, 3, {2, 8}, 12, 10, 6, true, 1};

constexpr std::array<std::string_view, 8> default_targets{
    "attn.to_q",       "attn.to_k",       "attn.to_v",       "attn.to_out.0",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"};
static_assert(runs_on_device<StableDiffusion3<sd35_medium>>);
static_assert(slots_named<StableDiffusion3<sd3_medium>>(default_targets) ==
              24 * 8 - 1); // the last has no to_add_out
static_assert(slots_named<StableDiffusion3<sd35_large>>(default_targets) == 38 * 8 - 1);
static_assert(slots_named<StableDiffusion3<sd35_medium>>({"attn2.to_q"}) == 13);

} // namespace

TEST_CASE("Stable Diffusion 3 asks for the tensors of the released checkpoints") {
  CHECK(names_of_net<StableDiffusion3<sd3_medium>>() == names_of_release("sd3_medium"));
  CHECK(names_of_net<StableDiffusion3<sd35_large>>() == names_of_release("sd35_large"));
  CHECK(names_of_net<StableDiffusion3<sd35_medium>>() == names_of_release("sd35_medium"));
}

template <class Net>
void check_values() {
  const ModelGoldens goldens(std::is_same_v<Net, StableDiffusion3<small_sd3>> ? "sd3" : "sd35");
  const auto model = open<Net>(goldens.model());
  CHECK(model.unused_names().empty());
  Session session(model);
  const auto run = [&] {
    return session.run(goldens.at("hidden_states"), goldens.at("encoder_hidden_states"),
                       goldens.at("pooled_projections"), goldens.at("timestep"));
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
TEST_CASE("It computes what diffusers does, with and without a LoRA") {
  check_values<StableDiffusion3<small_sd3>>();
  check_values<StableDiffusion3<small_sd35>>();
}

TEST_CASE("An image of more patches than there are positions is refused") {
  const ModelGoldens goldens("sd3");
  const auto model = open<StableDiffusion3<small_sd3>>(goldens.model());
  Session session(model);
  CHECK_THROWS_WITH_AS(
      (void)session.run(Tensor({1, 4, 14, 8}), Tensor({1, 3, 12}), Tensor({1, 10}), Tensor({1}, {3})),
      "positions: expected an image of at most 6 x 6 patches, got 7 x 4", shape_error);
}

TEST_CASE("With BF16 weights Stable Diffusion 3 and 3.5 compute what diffusers does in float64, and in "
          "bfloat16 within its rounding") {
  check_bf16<StableDiffusion3<small_sd3>>(
      "sd3", {"hidden_states", "encoder_hidden_states", "pooled_projections", "timestep"});
  check_bf16<StableDiffusion3<small_sd35>>(
      "sd35", {"hidden_states", "encoder_hidden_states", "pooled_projections", "timestep"});
}

TEST_CASE("The plan of buffers is near the least possible") {
  check_plan_of<StableDiffusion3<sd3_medium>>({.context = 333, .height = 128, .width = 128}, 199);
  check_plan_of<StableDiffusion3<sd35_medium>>({.batch = 2, .context = 333, .height = 128, .width = 96});
}

// SPDX-License-Identifier: Apache-2.0
// SDXL's UNet against diffusers' class: names, shapes and slots at released size; values, wires inside and adapters (of
// convolutions too) at a small one (tests/goldens/README.md).
#include "support/bf16_models.hpp"
#include "support/model_goldens.hpp"
#include "support/plan_check.hpp"
#include "support/slot_counts.hpp"

#include <doctest/doctest.h>

#include <tenon/models/sdxl_unet.hpp>

using namespace tenon;
using namespace tenon::models;
using namespace tenon::test;

namespace {

constexpr SdxlSize small_unet{4, 4, 8, 12, 2, 2, 3, 1, 2, 20, 18, 8};

using Released = SdxlUnet<sdxl_base>;
static_assert(runs_on_device<Released>);
static_assert(slots_named<Released>({"to_q", "to_k", "to_v", "to_out.0"}) == 560); // trainers' default
static_assert(slots_named<Released>({"ff.net.0.proj", "ff.net.2"}) == 140);
static_assert(slots_named<Released>({"conv1", "conv2", "conv_shortcut", "conv"}) == 17 + 17 + 11 + 4);
static_assert(parameter_count<Released> == 2'567'463'684);

} // namespace

TEST_CASE("SDXL's UNet asks for the tensors of the released checkpoint") {
  CHECK(names_of_net<Released>() == names_of_release("sdxl_unet"));
}

TEST_CASE("It computes what diffusers does, with and without a LoRA of linears and convolutions") {
  const ModelGoldens goldens("unet_sdxl");
  using Net = SdxlUnet<small_unet>;
  const auto model = open<Net>(goldens.model());
  CHECK(model.unused_names().empty());
  Session session(model);
  const auto run = [&] {
    return session.run(goldens.at("sample"), goldens.at("timestep"), goldens.at("encoder_hidden_states"),
                       goldens.at("text_embeds"), goldens.at("time_ids"));
  };
  CHECK(difference(run(), goldens.at("output")) < model_tolerance);
  const auto adapter = load_adapter<Net>(goldens.folder + "pytorch_lora_weights.safetensors");
  CHECK(std::ranges::any_of(adapter.report().matched,
                            [](const MatchedSlot& m) { return m.slot.ends_with("conv1"); }));
  {
    const auto guard = session.attach(adapter);
    CHECK(difference(run(), goldens.at("adapted.output")) < model_tolerance);
  }
  {
    const auto guard = session.attach<merged>(adapter);
    CHECK(difference(run(), goldens.at("merged.output")) < model_tolerance);
  }
  CHECK(difference(run(), goldens.at("output")) < model_tolerance);
}

TEST_CASE("The way down leaves diffusers' wires at each height") {
  const ModelGoldens goldens("unet_sdxl");
  using Net =
      Graph<Inputs<"sample", "timestep", "text", "pooled", "ids">,
            Let<"time", SdxlTime<small_unet>, "timestep", "pooled", "ids">,
            Let<"words", ContextOf<20>, "text">,
            Let<"first", Sequential<ChannelsLast<4>, Conv2d<"conv_in", 4, 4, 3, Padding<1>>>, "sample">,
            LetAll<Outputs<"a", "b", "c", "d", "e", "f", "g", "h">, SdxlWayDown<small_unet>, "first", "time",
                   "words">,
            Let<"at_c", ChannelsFirst<4>, "c">, Let<"at_d", ChannelsFirst<8>, "d">,
            Let<"at_f", ChannelsFirst<8>, "f">, Let<"at_h", ChannelsFirst<12>, "h">,
            Let<"at_a", ChannelsFirst<4>, "a">, Let<"at_b", ChannelsFirst<4>, "b">,
            Let<"at_e", ChannelsFirst<8>, "e">, Let<"at_g", ChannelsFirst<12>, "g">,
            Outputs<"at_a", "at_b", "at_c", "at_d", "at_e", "at_f", "at_g", "at_h">>;
  const auto model = open<Net>(goldens.model());
  Session session(model);
  (void)session.run(goldens.at("sample"), goldens.at("timestep"), goldens.at("encoder_hidden_states"),
                    goldens.at("text_embeds"), goldens.at("time_ids"));
  constexpr const char* wires[] = {"0.1.0", "0.1.1", "0.1.2", "1.1.0", "1.1.1", "1.1.2", "2.1.0", "2.1.1"};
  for (std::size_t i = 0; i < std::size(wires); ++i) {
    CAPTURE(wires[i]);
    CHECK(difference(session.output(i), goldens.at(std::string("wire.down_blocks.") + wires[i])) <
          model_tolerance);
  }
}

TEST_CASE("A sample whose sides are no multiples of 4 is refused in a sentence") {
  const ModelGoldens goldens("unet_sdxl");
  const auto model = open<SdxlUnet<small_unet>>(goldens.model());
  Session session(model);
  CHECK_THROWS_AS((void)session.run(Tensor({1, 4, 6, 8}), Tensor({1}, {3}), Tensor({1, 3, 20}),
                                    Tensor({1, 18}), Tensor({1, 6})),
                  shape_error);
}

TEST_CASE("With BF16 weights SDXL's UNet computes what diffusers does in float64, and in bfloat16 within its "
          "rounding") {
  check_bf16<SdxlUnet<small_unet>>(
      "unet_sdxl", {"sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids"});
}

TEST_CASE("The plan of buffers is near the least possible") {
  check_plan_of<Released>({.context = 77, .height = 128, .width = 128}, 245);
}

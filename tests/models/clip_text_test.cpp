// SPDX-License-Identifier: Apache-2.0
// CLIP's text encoders against transformers' classes: names and shapes at released size; values and adapters at a small
// one (tests/goldens/README.md).
#include "support/bf16_models.hpp"
#include "support/model_goldens.hpp"
#include "support/plan_check.hpp"

#include <doctest/doctest.h>

#include <tenon/models/clip_text.hpp>

using namespace tenon;
using namespace tenon::models;
using namespace tenon::test;

namespace {

constexpr ClipTextSize small_quick{100, 16, 32, 3, 4, 64, 0, true, 99};
constexpr ClipTextSize small_projected{100, 16, 40, 2, 4, 96, 24, false, 99};

static_assert(runs_on_device<ClipTextModelWithProjection<clip_bigg_text>>);
static_assert(slot_count<ClipTextModel<clip_l_text>> == 72);
static_assert(slot_count<ClipTextModelWithProjection<clip_bigg_text>> == 193);
static_assert(parameter_count<ClipTextModel<clip_l_text>> == 123'060'480);
static_assert(parameter_count<ClipTextModelWithProjection<clip_bigg_text>> == 694'659'840);

} // namespace

TEST_CASE("CLIP's text encoders ask for the tensors of the released checkpoints") {
  CHECK(names_of_net<ClipTextModel<clip_l_text>>() == names_of_release("clip_l_text"));
  CHECK(names_of_net<ClipTextModelWithProjection<clip_bigg_text>>() == names_of_release("clip_bigg_text"));
}

TEST_CASE("CLIP-L's text encoder computes what transformers does, with and without PEFT's adapter") {
  const ModelGoldens goldens("clip_text");
  std::string adapter_path;
  SUBCASE("under the names of the file") { adapter_path = goldens.adapter(); }
  SUBCASE("under transformers 5's names") { adapter_path = goldens.adapter() + "_transformers5"; }
  using Net = ClipTextModel<small_quick>;
  const auto model = open<Net>(goldens.model());
  Session session(model);
  const TensorView ids = goldens.at("ids");
  (void)session.run(ids);
  CHECK(difference(session.output(0), goldens.at("last_hidden_state")) < model_tolerance);
  CHECK(difference(session.output(1), goldens.at("hidden.2")) < model_tolerance);
  CHECK(difference(session.output(2), goldens.at("pooled")) < model_tolerance);

  const auto adapter = load_adapter<Net>(adapter_path);
  CHECK(adapter.report().matched.size() == 18); // the last block, which stands alone, has slots too
  {
    const auto guard = session.attach(adapter);
    CHECK(difference(session.run(ids), goldens.at("adapted.last_hidden_state")) < model_tolerance);
    CHECK(difference(session.output(2), goldens.at("adapted.pooled")) < model_tolerance);
  }
  const auto guard = session.attach<merged>(adapter);
  CHECK(difference(session.run(ids), goldens.at("merged.last_hidden_state")) < model_tolerance);
}

TEST_CASE("bigG's text encoder projects the end of the text") {
  const ModelGoldens goldens("clip_text_projection");
  const auto model = open<ClipTextModelWithProjection<small_projected>>(goldens.model());
  Session session(model);
  (void)session.run(goldens.at("ids"));
  CHECK(difference(session.output(0), goldens.at("last_hidden_state")) < model_tolerance);
  CHECK(difference(session.output(1), goldens.at("hidden.1")) < model_tolerance);
  CHECK(difference(session.output(2), goldens.at("text_embeds")) < model_tolerance);
}

TEST_CASE("A text without an end is refused") {
  const ModelGoldens goldens("clip_text");
  const auto model = open<ClipTextModel<small_quick>>(goldens.model());
  Session session(model);
  const std::array<std::int32_t, 3> ids{1, 2, 3};
  const std::array<std::int64_t, 2> shape{1, 3};
  CHECK_THROWS_WITH_AS((void)session.run(TensorView(ids.data(), DType::i32, shape)),
                       "sequence 0 has no token with id 99, whose hidden state is the net's output",
                       shape_error);
}

TEST_CASE("With BF16 weights CLIP's text encoders compute what transformers does in float64, and in bfloat16 "
          "within its rounding") {
  check_bf16<ClipTextModel<small_quick>>("clip_text", {"ids"}, {{0, "last_hidden_state"}, {2, "pooled"}});
  check_bf16<ClipTextModelWithProjection<small_projected>>("clip_text_projection", {"ids"},
                                                           {{0, "last_hidden_state"}, {2, "text_embeds"}});
}

TEST_CASE("The plan of buffers is near the least possible") {
  check_plan_of<ClipTextModelWithProjection<clip_bigg_text>>({.tokens = 77}, 3);
}

// SPDX-License-Identifier: Apache-2.0
// ViT against transformers' class: names and shapes at released size; values and adapters, of the patches' convolution
// too, at a small one (tests/goldens/README.md).
#include "support/bf16_models.hpp"
#include "support/model_goldens.hpp"
#include "support/plan_check.hpp"

#include <doctest/doctest.h>

#include <tenon/models/vit.hpp>

using namespace tenon;
using namespace tenon::models;
using namespace tenon::test;

namespace {

constexpr VitSize small_vit{24, 8, 32, 2, 4, 64};

static_assert(runs_on_device<Vit<vit_base_16>>);
static_assert(slot_count<Vit<vit_base_16>> == 73);
static_assert(parameter_count<Vit<vit_base_16>> == 85'798'656);

template <std::int64_t Layers>
using FirstLayers =
    Graph<Inputs<"pixels">, Let<"embedded", VitEmbeddings<small_vit>, "pixels">,
          Let<"seen", Scope<"encoder", Repeat<"layer", Layers, VitLayer<small_vit>>>, "embedded">,
          Outputs<"seen", "embedded">>;

} // namespace

TEST_CASE("ViT asks for the tensors of the released checkpoint") {
  CHECK(names_of_net<Vit<vit_base_16>>() == names_of_release("vit_base_16"));
}

TEST_CASE("ViT computes what transformers does, with and without PEFT's adapter") {
  const ModelGoldens goldens("vit");
  std::string adapter_path;
  SUBCASE("under the names of the file") { adapter_path = goldens.adapter(); }
  SUBCASE("under transformers 5's names") { adapter_path = goldens.adapter() + "_transformers5"; }
  using Net = Vit<small_vit>;
  const auto model = open<Net>(goldens.model());
  CHECK(model.unused_names().empty());
  Session session(model);
  const TensorView pixels = goldens.at("pixels");
  CHECK(difference(session.run(pixels), goldens.at("last_hidden_state")) < model_tolerance);
  const auto adapter = load_adapter<Net>(adapter_path);
  CHECK(adapter.report().matched.size() == 13); // a convolution's among them
  {
    const auto guard = session.attach(adapter);
    CHECK(difference(session.run(pixels), goldens.at("adapted.last_hidden_state")) < model_tolerance);
  }
  {
    const auto guard = session.attach<merged>(adapter);
    CHECK(difference(session.run(pixels), goldens.at("merged.last_hidden_state")) < model_tolerance);
  }
  CHECK(difference(session.run(pixels), goldens.at("last_hidden_state")) < model_tolerance);
}

template <class Net>
void check_layers() {
  const ModelGoldens goldens("vit");
  const auto model = open<Net>(goldens.model());
  Session session(model);
  CHECK(difference(session.run(goldens.at("pixels")),
                   goldens.at(std::is_same_v<Net, FirstLayers<1>> ? "hidden.1" : "hidden.2")) <
        model_tolerance);
  CHECK(difference(session.output(1), goldens.at("hidden.0")) < model_tolerance);
}
TEST_CASE("Each layer gives transformers' hidden states") {
  check_layers<FirstLayers<1>>();
  check_layers<FirstLayers<2>>();
}

TEST_CASE(
    "With BF16 weights ViT computes what transformers does in float64, and in bfloat16 within its rounding") {
  check_bf16<Vit<small_vit>>("vit", {"pixels"}, {{0, "last_hidden_state"}});
}

TEST_CASE("The plan of buffers is near the least possible") {
  check_plan_of<Vit<vit_base_16>>({.batch = 8}, 37);
}

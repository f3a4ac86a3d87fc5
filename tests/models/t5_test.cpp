// SPDX-License-Identifier: Apache-2.0
// T5's and UMT5's encoders against transformers' classes: names and shapes at released size; values and adapters at a
// small one (tests/goldens/README.md).
#include "support/bf16_models.hpp"
#include "support/model_goldens.hpp"
#include "support/plan_check.hpp"

#include <doctest/doctest.h>

#include <tenon/models/t5.hpp>

using namespace tenon;
using namespace tenon::models;
using namespace tenon::test;

namespace {

constexpr T5Size small_t5{100, 32, 2, {4, 12}, 64};
constexpr T5Size small_umt5{100, 32, 2, {4, 12}, 64, false};

static_assert(runs_on_device<T5Encoder<t5_xxl>>);
static_assert(slot_count<T5Encoder<t5_xxl>> == 168 && slot_count<T5Encoder<umt5_xxl>> == 168);
static_assert(parameter_count<T5Encoder<t5_xxl>> == 4'762'310'656);
static_assert(parameter_count<T5Encoder<umt5_xxl>> == 5'680'910'336);

} // namespace

TEST_CASE("T5's and UMT5's encoders ask for the tensors of the released checkpoints") {
  CHECK(names_of_net<T5Encoder<t5_xxl>>() == names_of_release("t5_xxl_encoder"));
  CHECK(names_of_net<T5Encoder<umt5_xxl>>() == names_of_release("umt5_xxl_encoder"));
}

TEST_CASE("Buckets of distances are transformers'") {
  for (const char* const name : {"t5", "umt5"}) {
    const ModelGoldens goldens(name);
    const TensorView buckets = goldens.at("buckets");
    const std::vector<float> table(32);
    const kernels::RelativeBias bias{
        .table = {reinterpret_cast<const std::byte*>(table.data()), DType::f32, 32, 1, 1}};
    for (std::int64_t i = 0; i < buckets.size(); ++i)
      CHECK(bias.bucket(i - 200) == reinterpret_cast<const std::int32_t*>(buckets.data)[i]);
  }
}

template <class Net>
void check_values() {
  const bool is_t5 = std::is_same_v<Net, T5Encoder<small_t5>>;
  const ModelGoldens goldens(is_t5 ? "t5" : "umt5");
  const auto model = open<Net>(goldens.model());
  Session session(model);
  const TensorView ids = goldens.at("ids");
  const TensorView mask = goldens.at("mask");
  CHECK(difference(session.run(ids, mask), goldens.at("last_hidden_state"), &mask) < model_tolerance);
  CHECK(model.unused_names().empty());
  if (!is_t5) return;
  const auto adapter = load_adapter<Net>(goldens.adapter());
  CHECK(adapter.report().matched.size() == 14);
  {
    const auto guard = session.attach(adapter);
    CHECK(difference(session.run(ids, mask), goldens.at("adapted.last_hidden_state"), &mask) <
          model_tolerance);
  }
  const auto guard = session.template attach<merged>(adapter);
  CHECK(difference(session.run(ids, mask), goldens.at("merged.last_hidden_state"), &mask) < model_tolerance);
}
TEST_CASE("The encoder computes what transformers does where there are tokens") {
  check_values<T5Encoder<small_t5>>();
  check_values<T5Encoder<small_umt5>>();
}

TEST_CASE("With BF16 weights T5 and UMT5 compute what transformers does in float64, and in bfloat16 within "
          "its rounding") {
  check_bf16<T5Encoder<small_t5>>("t5", {"ids", "mask"}, {{0, "last_hidden_state"}});
  check_bf16<T5Encoder<small_umt5>>("umt5", {"ids", "mask"}, {{0, "last_hidden_state"}});
}

TEST_CASE("The plan of buffers is near the least possible") {
  check_plan_of<T5Encoder<t5_xxl>>({.tokens = 512}, 72);
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "support/step_case.hpp"

#include <tenon/layers/embedding.hpp>

using namespace tenon;
using namespace tenon::test;

namespace {

const std::vector<std::int32_t> some_ids{0, 10, 3, 3, 7, 1};

StepCase embedding_of(DType dtype, std::vector<std::int32_t> ids = some_ids) {
  StepCase one;
  one.ids({2, 3}, std::move(ids)).weight(dtype, {11, 13}).output({2, 3, 13});
  return one;
}

} // namespace

TEST_CASE("Embedding on a device gives the table's rows, exactly") {
  for (const DType dtype : weight_dtypes) {
    StepCase one = embedding_of(dtype);
    CHECK(one.on_device("Embedding") == one.on_host(&embedding_step<false>));
    CHECK(one.fault == 0);
  }
}

TEST_CASE("A device's Embedding reports an id outside the table as its step's fault and reads row 0") {
  for (const std::int32_t wrong : {-1, 11, std::numeric_limits<std::int32_t>::max()}) {
    StepCase one = embedding_of(DType::f32, {0, 10, wrong, 3, 7, 1});
    one.context.number = 41;
    const std::vector<float> y = one.on_device("Embedding");
    CHECK(one.fault == 42);
    StepCase row_0 = embedding_of(DType::f32, {0, 10, 0, 3, 7, 1});
    CHECK(y == row_0.on_device("Embedding"));
  }
}

TEST_CASE("Embedding on a device adds its slot's terms to the base's table, or an overlay's") {
  for (const DType a : weight_dtypes)
    for (const DType b : weight_dtypes) {
      StepCase one = embedding_of(DType::bf16);
      ActiveSlot slot{
          .weight = one.stored(DType::f16, {11, 13}), .base = one.context.weights[0], .is_pristine = false};
      one.context.slot = &slot;
      CHECK(one.on_device("Embedding") == one.on_host(&embedding_step<true>));

      SideTerm first{.term = {.a = weight_matrix(one.stored(a, {5, 13})),
                              .b = weight_matrix(one.stored(b, {11, 5})),
                              .scale = 0.75f}};
      slot.terms.add(first);
      CHECK(difference(one.on_device("Embedding"), one.on_host(&embedding_step<true>)) <= device_tolerance);

      Numbers numbers(9);
      std::vector<float> gains(8);
      for (float& gain : gains) gain = numbers.next();
      SideTerm part{.term = {.a = weight_matrix(one.stored(a, {3, 13})),
                             .b = weight_matrix(one.stored(b, {4, 3})),
                             .scale = -2,
                             .row_gain = gains.data(),
                             .rank_gain = gains.data() + 4,
                             .first_row = 3}}; // rows 3 ... 6 alone
      slot.terms.add(part);
      CHECK(difference(one.on_device("Embedding"), one.on_host(&embedding_step<true>)) <= device_tolerance);
    }
}

TEST_CASE("A device reads a term's scale where the term says that it lies") {
  StepCase one = embedding_of(DType::f32);
  ActiveSlot slot{.weight = one.context.weights[0], .base = one.context.weights[0]};
  SideTerm side{.term = {.a = weight_matrix(one.stored(DType::f32, {2, 13})),
                         .b = weight_matrix(one.stored(DType::f32, {11, 2})),
                         .scale = 0.5f}};
  slot.terms.add(side);
  one.context.slot = &slot;
  const std::vector<float> expected = one.on_host(&embedding_step<true>);
  float scale = 0.5f;
  side.term.scale = 3;
  side.term.scale_at = &scale;
  CHECK(difference(one.on_device("Embedding"), expected) <= device_tolerance);
  scale = 0;
  side.term.scale_at = nullptr;
  side.term.scale = 0;
  const std::vector<float> without = one.on_host(&embedding_step<true>);
  side.term.scale_at = &scale;
  CHECK(one.on_device("Embedding") == without);
}

TEST_CASE("AddPositions and AddEmbeddingRow on a device have the host's bits, in place as well") {
  for (const DType dtype : weight_dtypes)
    for (const std::int64_t row : {-1, 4}) {
      const std::string_view op = row < 0 ? "AddPositions" : "AddEmbeddingRow";
      StepCase one;
      one.input({3, 5, 7}).weight(dtype, {9, 7}).output({3, 5, 7});
      one.context.params.integers[0] = row;
      one.context.past = row < 0 ? 4 : 0;
      const std::vector<float> expected = one.on_host(&add_rows_step);
      CHECK(one.on_device(op) == expected);
      CHECK(one.over(0).on_device(op) == expected);
    }
}

TEST_CASE("AddPositions on a device refuses more tokens than the table has, as on the host") {
  StepCase one;
  one.input({1, 5, 7}).weight(DType::f32, {8, 7}).output({1, 5, 7});
  one.context.params.integers[0] = -1;
  one.context.past = 4;
  CHECK_THROWS_WITH_AS((void)one.on_device("AddPositions"),
                       "position embeddings: expected at most 8 tokens, got 9; split the input", shape_error);
}

// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

using Net =
    Sequential<Embedding<"words", 9, 4>, AddEmbeddingRow<"types", 2, 4, 1>, AddPositions<"positions", 3, 4>>;

TEST_CASE("Words types and positions add up") {
  for (const DType dtype : {f32, bf16}) {
    OneLayer<Net> layer(dtype);
    const std::vector<std::int32_t> ids{8, 0, 3, 3, 1, 2};
    const Tensor y = layer.session(view(ids, {2, 3}));
    for (std::size_t i = 0; i < 6; ++i)
      for (std::size_t d = 0; d < 4; ++d) {
        const auto word = static_cast<float>(layer.weight(0)[static_cast<std::size_t>(ids[i]) * 4 + d]);
        const auto type = static_cast<float>(layer.weight(1)[4 + d]);
        const auto position = static_cast<float>(layer.weight(2)[i % 3 * 4 + d]);
        CHECK(y.values()[i * 4 + d] == word + type + position);
      }
  }
}

TEST_CASE("More tokens than positions are refused") {
  OneLayer<Net> layer;
  const std::vector<std::int32_t> ids{1, 1, 1, 1};
  CHECK_THROWS_WITH_AS((void)layer.session(view(ids, {1, 4})),
                       "position embeddings: expected at most 3 tokens, got 4; split the input", shape_error);
}

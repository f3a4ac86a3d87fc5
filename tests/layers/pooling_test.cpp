// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("Pooling is the mean of the tokens that the mask keeps") {
  using Net =
      Graph<Inputs<"x", "mask">, Let<"h", Linear<"fc", 2, 2>, "x">, Let<"y", MeanPool<2>, "h", "mask">,
            Let<"all", MeanPool<2>, "h">, Outputs<"y", "all", "h">>;
  OneLayer<Net> layer;
  const auto [kept, all, h] = layer.session(wave({1, 3, 2}), Tensor({1, 3}, {1, 0, 1}));
  for (std::size_t d = 0; d < 2; ++d) {
    const std::span<const float> v = h.values();
    CHECK(kept.values()[d] == doctest::Approx((v[d] + v[4 + d]) / 2).epsilon(few_ulps));
    CHECK(all.values()[d] == doctest::Approx((v[d] + v[2 + d] + v[4 + d]) / 3).epsilon(few_ulps));
  }
}

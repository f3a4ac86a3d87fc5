// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("UpsampleNearest repeats each position along height and width") {
  using Net = Sequential<UpsampleNearest<2>, ChannelsFirst<3>, ChannelsLast<3>>;
  OneLayer<Net> layer;
  const Tensor x = wave({2, 2, 5, 3});
  const Tensor y = layer.session(x);
  CHECK(std::ranges::equal(TensorView(y).shape(), std::array<std::int64_t, 4>{2, 4, 10, 3}));
  for (std::int64_t b = 0; b < 2; ++b)
    for (std::int64_t i = 0; i < 4; ++i)
      for (std::int64_t j = 0; j < 10; ++j)
        for (std::size_t c = 0; c < 3; ++c)
          CHECK(y.row((b * 4 + i) * 10 + j)[c] == x.row((b * 2 + i / 2) * 5 + j / 2)[c]);
}

TEST_CASE("UpsampleNearest leaves frames and takes other factors") {
  using Net = Sequential<UpsampleNearest<3>, Conv3d<"conv", 2, 2, 1>>;
  static_assert(output_shape<Net> ==
                Shape::of({batch_dim, frames_dim, height_dim * 3, width_dim * 3, fixed(2)}));
  OneLayer<Net> layer;
  CHECK(std::ranges::equal(TensorView(layer.session(wave({1, 4, 2, 3, 2}))).shape(),
                           std::array<std::int64_t, 5>{1, 4, 6, 9, 2}));
}

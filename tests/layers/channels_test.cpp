// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("ChannelsLast and ChannelsFirst turn images round") {
  OneLayer<ChannelsLast<3>> last;
  static_assert(output_shape<ChannelsLast<3>> == Shape::of({batch_dim, height_dim, width_dim, fixed(3)}));
  const Tensor x = wave({2, 3, 5, 7});
  const Tensor y = last.session(x);
  CHECK(std::ranges::equal(TensorView(y).shape(), std::array<std::int64_t, 4>{2, 5, 7, 3}));
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t c = 0; c < 3; ++c)
      for (std::size_t i = 0; i < 35; ++i)
        CHECK(y.values()[(b * 35 + i) * 3 + c] == x.values()[(b * 3 + c) * 35 + i]);
  OneLayer<ChannelsFirst<3>> first;
  CHECK(first.session(y) == x);
}

TEST_CASE("Images of many channels and positions are turned round by several threads") {
  OneLayer<ChannelsLast<70>> last;
  OneLayer<ChannelsFirst<70>> first;
  const Tensor x = wave({2, 70, 33, 65});
  const Tensor y = last.session(x);
  last.session.use_threads(3);
  CHECK(last.session(x) == y);
  first.session.use_threads(2);
  CHECK(first.session(y) == x);
}

TEST_CASE("Videos have frames before the height in both layouts") {
  OneLayer<ChannelsLast<4, 3>> last;
  OneLayer<ChannelsFirst<4, 3>> first;
  const Tensor x = wave({1, 4, 2, 3, 5});
  const Tensor y = last.session(x);
  CHECK(std::ranges::equal(TensorView(y).shape(), std::array<std::int64_t, 5>{1, 2, 3, 5, 4}));
  CHECK(y.values()[4] == x.values()[1]);
  CHECK(y.values()[1] == x.values()[30]);
  CHECK(first.session(y) == x);
}

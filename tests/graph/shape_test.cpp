// SPDX-License-Identifier: Apache-2.0
#include <tenon/graph/shape.hpp>

#include <doctest/doctest.h>

using namespace tenon;

TEST_CASE("A pattern takes wires whose last dimensions are its own") {
  constexpr Shape tokens = Shape::of({batch_dim, tokens_dim, fixed(8)});
  static_assert(accepts(Shape::rows_of(8), tokens));
  static_assert(!accepts(Shape::rows_of(9), tokens));
  static_assert(accepts(Shape::any(), tokens));
  static_assert(accepts(tokens, tokens));
  static_assert(!accepts(tokens, Shape::of({batch_dim, fixed(8)})));
  static_assert(!accepts(Shape::of({batch_dim, tokens_dim}, DType::i32), Shape::of({batch_dim, tokens_dim})));
}

TEST_CASE("An open pattern becomes batch and tokens") {
  static_assert(Shape::rows_of(8).opened() == Shape::of({batch_dim, tokens_dim, fixed(8)}));
  static_assert(Shape::of({batch_dim, fixed(3)}).opened() == Shape::of({batch_dim, fixed(3)}));
}

TEST_CASE("Sizes follow the named dimensions") {
  constexpr Shape tokens = Shape::of({batch_dim, tokens_dim, fixed(8)});
  static_assert(tokens.size({.batch = 2, .tokens = 5}) == 80);
  static_assert(tokens.bytes({.batch = 2, .tokens = 5}) == 320);
  static_assert(tokens.with_width(3).size({.batch = 2, .tokens = 5}) == 30);
}

TEST_CASE("A grid takes images of any extents and opens as batch, height and width") {
  constexpr Shape image = Shape::of({batch_dim, height_dim, width_dim, fixed(8)});
  static_assert(Shape::grid_of(8).opened() == image);
  static_assert(accepts(Shape::grid_of(8), image));
  static_assert(accepts(Shape::grid_of(8), Shape::of({batch_dim, height_dim / 8, fixed(3), fixed(8)})));
  static_assert(!accepts(Shape::grid_of(9), image));
  static_assert(!accepts(Shape::grid_of(8), Shape::of({batch_dim, tokens_dim, fixed(8)})));
  static_assert(!accepts(Shape::grid_of(8, 3), image));
  static_assert(Shape::grid_of(8, 3).opened() ==
                Shape::of({batch_dim, frames_dim, height_dim, width_dim, fixed(8)}));
  static_assert(Shape::grid_of(8, 1).opened() == Shape::of({batch_dim, tokens_dim, fixed(8)}));
}

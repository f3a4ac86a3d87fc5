// SPDX-License-Identifier: Apache-2.0
#include <tenon/graph/dims.hpp>

#include <doctest/doctest.h>

using namespace tenon;

TEST_CASE("What is divided and multiplied by the same number is what it was") {
  static_assert(height_dim / 2 * 2 == height_dim);
  static_assert(height_dim * 8 / 8 == height_dim);
  static_assert(height_dim / 8 * 2 == height_dim / 4);
  static_assert(fixed(12) / 4 * 3 == fixed(9));
}

TEST_CASE("Divided and multiplied dimensions have the values of the call's") {
  static_assert((height_dim * 3 / 2).at({.height = 4}) == 6);
  static_assert((height_dim * 2 * (width_dim / 2 * 4)).at({.height = 3, .width = 6}) == 72);
  static_assert((height_dim * 2 + context_dim).at({.context = 7, .height = 3}) == 13);
  static_assert(!(height_dim * 2).is_plain());
}

TEST_CASE("A dimension's text says what was made of its axis") {
  CHECK(dim_text(height_dim * 8) == "height*8");
  CHECK(dim_text(height_dim / 2) == "height/2");
  CHECK(dim_text(height_dim * 3 / 2) == "height/2*3");
  CHECK(dim_text(height_dim / 2 * (width_dim / 2)) == "height/2*width/2");
  CHECK(dim_text(tokens_dim + context_dim) == "tokens+context");
}

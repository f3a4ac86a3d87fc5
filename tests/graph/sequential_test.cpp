// SPDX-License-Identifier: Apache-2.0
#include "support/nets.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("A chain takes what its first op with a width takes and gives what its last gives") {
  using Chain = Sequential<Relu, Linear<"a", 3, 7>, Gelu, Linear<"b", 7, 2>, Softmax>;
  static_assert(Chain::takes(0) == Shape::rows_of(3));
  constexpr Shape x = Shape::of({batch_dim, tokens_dim, fixed(3)});
  static_assert(Chain::gives(std::span<const Shape>(&x, 1)) == Shape::of({batch_dim, tokens_dim, fixed(2)}));
  static_assert(Chain::is_well_formed);
}

TEST_CASE("Chains of any op nest") {
  using Inner = Sequential<Linear<"a", 3, 3>, Tanh>;
  using Outer = Sequential<Scope<"one", Inner>, Scope<"two", Inner>, Repeat<"more", 2, Inner>>;
  static_assert(slot_count<Outer> == 4);
  CHECK(slot_path(program_of<Outer>(), 0) == "one.a");
  CHECK(slot_path(program_of<Outer>(), 1) == "two.a");
  CHECK(slot_path(program_of<Outer>(), 3) == "more.1.a");
}

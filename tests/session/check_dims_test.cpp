// SPDX-License-Identifier: Apache-2.0
#include <tenon/session/check_dims.hpp>

#include <tenon/graph/lower.hpp>
#include <tenon/graph/sequential.hpp>
#include <tenon/layers/convolution.hpp>

#include <doctest/doctest.h>

using namespace tenon;

namespace {

template <fixed_string Name, std::int64_t S>
using Patches = Conv2d<Name, 4, 4, S, Stride<S>>;

} // namespace

TEST_CASE("The least dimensions are multiples of all that a net divides them by") {
  const Dims least = least_dims(program_of<Sequential<Patches<"a", 4>, Patches<"b", 6>>>());
  CHECK(least == Dims{.height = 24, .width = 24});
  CHECK_NOTHROW(check_dims(program_of<Sequential<Patches<"a", 4>, Patches<"b", 6>>>(), least));
  CHECK(least_dims(program_of<Conv2d<"c", 4, 4, 1>>()) == Dims{});
}

TEST_CASE("A dimension that the net cannot divide is named with its wire") {
  CHECK_THROWS_WITH_AS(check_dims(program_of<Patches<"a", 4>>(), {.batch = 3, .height = 8, .width = 6}),
                       "this net computes on [batch, height/4, width/4, 4] (a wire inside): width must be a "
                       "multiple of 4, got 6; pad or crop the input",
                       shape_error);
}

// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"

#include <tenon/layers/convolution.hpp>

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

// A user's op: the mean of each block of 2 by 4 places of an image.
void shrink_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const WireView& y = context.output;
  std::ranges::fill(y.values(), 0.0f);
  for (std::int64_t row = 0; row < x.rows(); ++row) {
    const std::int64_t image = row / (x.extent(1) * x.extent(2));
    const std::int64_t i = row / x.extent(2) % x.extent(1) / 2;
    const std::int64_t j = row % x.extent(2) / 4;
    for (std::int64_t d = 0; d < x.width(); ++d)
      y.matrix().row((image * y.extent(1) + i) * y.extent(2) + j)[d] += x.const_matrix().row(row)[d] / 8;
  }
}

template <std::int64_t D>
struct Shrink {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) {
    return Shape::of({batch_dim, height_dim, width_dim, fixed(D)});
  }
  static constexpr Shape gives(std::span<const Shape>) {
    return Shape::of({batch_dim, height_dim / 2, width_dim / 4, fixed(D)});
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "Shrink", .run = &shrink_step, .inputs = {wires[0]}, .output = gives({})});
  }
};

template <fixed_string Name, std::int64_t S>
using Patches = Conv2d<Name, 4, 4, S, Stride<S>>;

using Net = Graph<Inputs<"picture">, Let<"small", Shrink<3>, "picture">,
                  Let<"y", Linear<"fc", 3, 2>, "small">, Outputs<"y">>;

} // namespace

TEST_CASE("A dimension that is no multiple of what the net divides it by is named with its wire") {
  const Program& program = program_of<Net>();
  CHECK_NOTHROW(check_dims(program, {.batch = 3, .height = 6, .width = 8}));
  CHECK_THROWS_WITH_AS(
      check_dims(program, {.height = 5, .width = 8}),
      "this net computes on [batch, height/2, width/4, 3] (small): height must be a multiple of "
      "2, got 5; pad or crop the input",
      shape_error);
  CHECK_THROWS_WITH_AS(
      check_dims(program, {.height = 6, .width = 6}),
      "this net computes on [batch, height/2, width/4, 3] (small): width must be a multiple of "
      "4, got 6; pad or crop the input",
      shape_error);
  try {
    check_dims(program, {.height = 5, .width = 8});
  } catch (const error& e) {
    CHECK(e.code() == ErrorCode::wrong_shape);
  }
}

TEST_CASE("A wire without a name, and one of two dimensions laid out as one, are checked too") {
  CHECK_THROWS_WITH_AS(
      check_dims(program_of<Sequential<Shrink<3>, Linear<"fc", 3, 2>>>(), {.height = 2, .width = 1}),
      "this net computes on [batch, height/2, width/4, 3] (a wire inside): width must be a "
      "multiple of 4, got 1; pad or crop the input",
      shape_error);
  using Flat = Graph<Inputs<"x">, Let<"h", Linear<"fc", 3, 2>, "x">, Outputs<"h">>;
  CHECK_NOTHROW(check_dims(program_of<Flat>(), {.tokens = 7, .height = 5, .width = 5}));

  // By hand: a program whose only wire is [height/2*width/4]
  const Wire wire{.shape = Shape::of({height_dim / 2 * (width_dim / 4), fixed(2)})};
  Program joined{};
  joined.wires = {&wire, 1};
  CHECK_NOTHROW(check_dims(joined, {.height = 4, .width = 4}));
  CHECK_THROWS_WITH_AS(
      check_dims(joined, {.height = 4, .width = 6}),
      "this net computes on [height/2*width/4, 2] (a wire inside): width must be a multiple of "
      "4, got 6; pad or crop the input",
      shape_error);
  CHECK_THROWS_AS(check_dims(joined, {.height = 3, .width = 4}), shape_error);
}

TEST_CASE("A session refuses such an input and goes on") {
  Fixture<Net> f;
  Session session(f.model, {.height = 4, .width = 8});
  const Tensor good = ramp({1, 4, 8, 3});
  const Tensor y = session(good);
  CHECK(std::ranges::equal(y.shape(), std::vector<std::int64_t>{1, 2, 2, 2}));
  const BytesByCategory held = f.ledger.current();
  CHECK_THROWS_WITH_AS(
      (void)session(ramp({1, 400, 803, 3})),
      "this net computes on [batch, height/2, width/4, 3] (small): width must be a multiple of "
      "4, got 803; pad or crop the input",
      shape_error);
  CHECK_THROWS_AS(session.reserve({.height = 401, .width = 800}), shape_error);
  CHECK(f.ledger.current() == held);
  CHECK(session(good) == y);
}

TEST_CASE("A session begins with the least dimensions that its net can compute with") {
  Fixture<Net> f;
  CHECK(least_dims(program_of<Net>()) == Dims{.height = 2, .width = 4});
  Session session(f.model);
  CHECK(session.activation_bytes() == activation_bytes<Net>({.height = 2, .width = 4}));
  const Tensor y = session(ramp({2, 4, 8, 3}));
  Session other(f.model, {.batch = 2, .height = 4, .width = 8});
  CHECK(other(ramp({2, 4, 8, 3})) == y);
}

TEST_CASE("The least dimensions are multiples of all that a net divides them by") {
  const Dims least = least_dims(program_of<Sequential<Patches<"a", 4>, Patches<"b", 6>>>());
  CHECK(least == Dims{.height = 24, .width = 24});
  CHECK_NOTHROW(check_dims(program_of<Sequential<Patches<"a", 4>, Patches<"b", 6>>>(), least));
  CHECK(least_dims(program_of<Conv2d<"c", 4, 4, 1>>()) == Dims{});
}

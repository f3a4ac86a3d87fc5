// SPDX-License-Identifier: Apache-2.0
#include "support/nets.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("An open input takes what its first reader with a width takes") {
  using ThroughAny = Graph<Inputs<"x">, Let<"a", Gelu, "x">, Let<"b", Linear<"fc", 5, 5>, "a">,
                           Let<"y", Add, "b", "a">, Outputs<"y">>;
  static_assert(ThroughAny::takes(0) == Shape::rows_of(5));
  static_assert(Block<8>::takes(0) == Shape::of({batch_dim, tokens_dim, fixed(8)}));
  static_assert(Block<8>::takes(1) == Shape::of({batch_dim, tokens_dim}));
  static_assert(Encoder<8, 2>::takes(0) == Shape::of({batch_dim, tokens_dim}, DType::i32));
}

TEST_CASE("A graph is an op and gives the shape of its output") {
  static_assert(GraphOp<Block<8>>);
  static_assert(Block<8>::gives(opened_inputs<Block<8>>()) == Shape::of({batch_dim, tokens_dim, fixed(8)}));
}

TEST_CASE("Wires keep the names that the graph gives them") {
  const Program& program = program_of<Block<8>>();
  CHECK(program.text_of(program.wires[static_cast<std::size_t>(program.inputs[0])].name) == "x");
  CHECK(program.text_of(program.wires[static_cast<std::size_t>(program.inputs[1])].name) == "mask");
  CHECK(program.text_of(program.wires[static_cast<std::size_t>(program.outputs[0])].name) == "y");
}

TEST_CASE("An op may be given its optional input or not") {
  using WithMask = Graph<Inputs<"x", "mask">, Let<"y", SelfAttention<"a", 8, 2>, "x", "mask">, Outputs<"y">>;
  using Without = Graph<Inputs<"x">, Let<"y", SelfAttention<"a", 8, 2>, "x">, Outputs<"y">>;
  static_assert(WithMask::inputs == 2 && Without::inputs == 1);
  static_assert(slot_count<WithMask> == 3 && slot_count<Without> == 3);
}

TEST_CASE("A net may have several outputs") {
  static_assert(output_count_of<Encoder<8, 2>>() == 2);
  static_assert(output_count_of<Mlp>() == 1);
}

// SPDX-License-Identifier: Apache-2.0
#include "support/files.hpp"
#include "support/nets.hpp"
#include "support/temporary_folder.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

/// Two wires in, two wires of other widths out, the second made first.
using Pair = Graph<Inputs<"a", "b">, Let<"y", Linear<"two", 3, 5>, "b">, Let<"x", Linear<"one", 2, 4>, "a">,
                   Outputs<"x", "y">>;

Tensor ramp_of(std::int64_t rows, std::int64_t cols) {
  Tensor x({rows, cols});
  for (std::size_t i = 0; i < x.values().size(); ++i) x.values()[i] = 0.25f * static_cast<float>(i) - 1.0f;
  return x;
}

} // namespace

TEST_CASE("An open input takes what its first reader with a width takes") {
  using ThroughAny = Graph<Inputs<"x">, Let<"a", Gelu, "x">, Let<"b", Linear<"fc", 5, 5>, "a">,
                           Let<"y", Add, "b", "a">, Outputs<"y">>;
  static_assert(ThroughAny::takes(0) == Shape::rows_of(5));
  static_assert(Block<8>::takes(0) == Shape::grid_of(8, 1));
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
  static_assert(output_count<Encoder<8, 2>>() == 2);
  static_assert(output_count<Mlp>() == 1);
}

TEST_CASE("All wires of an op that gives several are bound, in the order of its outputs") {
  using Net =
      Graph<Inputs<"p", "q">, LetAll<Outputs<"u", "v">, Scope<"both", Pair>, "p", "q">,
            Let<"w", Linear<"three", 4, 5>, "u">, Let<"sum", Add, "w", "v">, Outputs<"v", "sum", "u">>;
  static_assert(GraphOp<Scope<"both", Pair>> && Net::is_well_formed);
  static_assert(Scope<"both", Pair>::output_count == 2 && output_count<Net>() == 3);
  static_assert(Net::takes(0) == Shape::rows_of(2) && Net::takes(1) == Shape::rows_of(3));
  static_assert(output_shape<Net>.width() == 5);
  static_assert(weights<Net>[0].path == "both.two.weight" && weights<Net>[2].path == "both.one.weight");
  static_assert(weights<Net>[4].path == "three.weight"); // the scope ends with its op

  const TemporaryFolder folder;
  write_checkpoint<Net>(folder.file("m.safetensors"));
  const auto model = open<Net>(folder.file("m.safetensors"));
  const auto pair = open<Pair>(folder.file("m.safetensors"), {.prefix = "both."});
  const auto three = open<Linear<"three", 4, 5>>(folder.file("m.safetensors"));
  const Tensor p = ramp_of(3, 2);
  const Tensor q = ramp_of(3, 3);
  Session session(model);
  const auto [v, sum, u] = session(p, q);
  const auto [x, y] = Session(pair)(p, q);
  const Tensor w = Session(three)(x);
  CHECK(u == x);
  CHECK(v == y);
  for (std::size_t i = 0; i < w.values().size(); ++i) CHECK(sum.values()[i] == w.values()[i] + y.values()[i]);

  const Program& program = program_of<Net>();
  CHECK(program.text_of(program.wires[static_cast<std::size_t>(program.outputs[0])].name) == "v");
  CHECK(program.text_of(program.wires[static_cast<std::size_t>(program.outputs[2])].name) == "u");
}

TEST_CASE("An op of several wires may be used twice, each time with names of its own") {
  using Net = Graph<Inputs<"p", "q">, LetAll<Outputs<"u", "v">, Scope<"first", Pair>, "p", "q">,
                    LetAll<Outputs<"r", "s">, Scope<"second", Pair>, "p", "q">, Let<"left", Add, "u", "r">,
                    Let<"right", Multiply, "v", "s">, Outputs<"left", "right">>;
  static_assert(weight_count<Net> == 8);
  const TemporaryFolder folder;
  write_checkpoint<Net>(folder.file("m.safetensors"));
  const auto model = open<Net>(folder.file("m.safetensors"));
  const auto first = open<Pair>(folder.file("m.safetensors"), {.prefix = "first."});
  const auto second = open<Pair>(folder.file("m.safetensors"), {.prefix = "second."});
  const Tensor p = ramp_of(3, 2);
  const Tensor q = ramp_of(3, 3);
  Session session(model);
  const auto [left, right] = session(p, q);
  const auto [u, v] = Session(first)(p, q);
  const auto [r, s] = Session(second)(p, q);
  for (std::size_t i = 0; i < u.values().size(); ++i)
    CHECK(left.values()[i] == u.values()[i] + r.values()[i]);
  for (std::size_t i = 0; i < v.values().size(); ++i)
    CHECK(right.values()[i] == v.values()[i] * s.values()[i]);
}

TEST_CASE("A scope around a repeat of several wires gives all of them") {
  using Turn = Graph<Inputs<"a", "b">, Let<"c", Linear<"one", 4, 4>, "a">, Let<"d", Linear<"two", 4, 4>, "b">,
                     Outputs<"c", "d">>;
  using Net =
      Graph<Inputs<"a", "b">, LetAll<Outputs<"c", "d">, Scope<"net", Repeat<"layer", 2, Turn>>, "a", "b">,
            Let<"y", Add, "c", "d">, Outputs<"y">>;
  static_assert(slot_count<Net> == 4);
  CHECK(slot_path(program_of<Net>(), 1) == "net.layer.1.one");
  CHECK(slot_path(program_of<Net>(), 2) == "net.layer.0.two");
}

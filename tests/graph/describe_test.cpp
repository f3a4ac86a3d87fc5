// SPDX-License-Identifier: Apache-2.0
#include "support/nets.hpp"

#include <tenon/graph/drawing.hpp>
#include <tenon/graph/wire_bytes.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>

using namespace tenon;
using namespace tenon::test;

namespace {

using Repeated = Scope<"net", Repeat<"layer", 4, Sequential<Linear<"fc", 6, 6>, Tanh>>>;

std::int64_t count_of(std::string_view text, std::string_view part) {
  std::int64_t n = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++n;
  return n;
}
bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// How deep the braces of DOT go, strings left out; -1 where they do not balance.
std::int64_t depth_of_braces(std::string_view dot) {
  std::int64_t depth = 0;
  std::int64_t deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < dot.size(); ++i) {
    if (in_string && dot[i] == '\\')
      ++i;
    else if (dot[i] == '"')
      in_string = !in_string;
    else if (!in_string && dot[i] == '{')
      deepest = std::max(deepest, ++depth);
    else if (!in_string && dot[i] == '}' && --depth < 0)
      return -1;
  }
  return depth == 0 && !in_string ? deepest : -1;
}

void nothing_step(const StepContext&) {}

/// Has a buffer of its own while it runs.
struct Buffered {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(4); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const WireId kept = builder.temporary(Shape::of({tokens_dim, fixed(2)}));
    return builder.step({.op = "Buffered",
                         .run = &nothing_step,
                         .inputs = {wires[0]},
                         .output = builder.shape(wires[0]),
                         .temporaries = {kept}});
  }
};

} // namespace

TEST_CASE("A description is a table and a Mermaid flowchart") {
  CHECK(describe<Repeated>() == describe_table<Repeated>() + "\n" + mermaid<Repeated>());
  const Dims dims{.batch = 2, .tokens = 5};
  CHECK(describe<Repeated>(dims) == describe_table<Repeated>(dims) + "\n" + mermaid<Repeated>(dims));
}

TEST_CASE("The table has a row for each wire with its bytes as a product of the named axes") {
  CHECK(describe_table<Repeated>() ==
        "8 weights, 168 parameters, 4 adapter slots\n"
        "op              path            output              bytes                weight  slot\n"
        "--              ----            ------              -----                ------  ----\n"
        "input           input           [batch, tokens, 6]  24 x batch x tokens\n"
        "Copy            net             [batch, tokens, 6]  24 x batch x tokens\n"
        "repeat 4 times\n"
        "Linear          net.layer.*.fc  [batch, tokens, 6]  24 x batch x tokens  [6, 6]  any kind\n"
        "Tanh            net.layer.*     [batch, tokens, 6]  24 x batch x tokens\n"
        "end of repeat\n");
}

TEST_CASE("For given dimensions the table has bytes and the plan's offsets and total") {
  CHECK(describe_table<Repeated>({.batch = 2, .tokens = 5}) ==
        "8 weights, 168 parameters, 4 adapter slots\n"
        "for batch 2, tokens 5: 768 bytes of workspace\n"
        "op              path            output              bytes  offset  weight  slot\n"
        "--              ----            ------              -----  ------  ------  ----\n"
        "input           input           [batch, tokens, 6]  240\n"
        "Copy            net             [batch, tokens, 6]  240    0\n"
        "repeat 4 times\n"
        "Linear          net.layer.*.fc  [batch, tokens, 6]  240    512     [6, 6]  any kind\n"
        "Tanh            net.layer.*     [batch, tokens, 6]  240    256\n"
        "end of repeat\n");
  static_assert(activation_bytes<Repeated>({.batch = 2, .tokens = 5}) == 768);
}

TEST_CASE("A step's temporaries are rows of the table") {
  const std::string table = describe_table<Buffered>({.batch = 1, .tokens = 8});
  CHECK(has(table, "Buffered          [batch, tokens, 4]  128"));
  CHECK(has(table, "temporary         [tokens, 2]         64"));
}

TEST_CASE("Bytes are a product of what only a call fixes") {
  CHECK(bytes_product(Shape::of({fixed(3), fixed(5)})) == "60");
  CHECK(bytes_product(Shape::of({batch_dim, tokens_dim}, i32)) == "4 x batch x tokens");
  CHECK(bytes_product(Shape::of({batch_dim, height_dim / 2, width_dim / 2, fixed(320)})) ==
        "1280 x batch x height/2 x width/2");
  CHECK(bytes_product(Shape::of({batch_dim, (height_dim / 2) * (width_dim / 2), fixed(64)})) ==
        "256 x batch x height/2 x width/2");
  CHECK(bytes_product(Shape::of({batch_dim, height_dim * 8, fixed(3)})) == "96 x batch x height");
  CHECK(bytes_product(Shape::of({batch_dim, tokens_dim + context_dim, fixed(8)})) ==
        "32 x batch x (tokens+context)");
  CHECK(bytes_product(Shape::of({tokens_dim + fixed(1), fixed(8)})) == "32 x (tokens+1)");
}

TEST_CASE("The Mermaid flowchart has loops as subgraphs and bytes at its edges and marks slots") {
  CHECK(mermaid<Repeated>() == "flowchart TD\n"
                               "  w0([\"input\"])\n"
                               "  w1[\"Copy net\"]\n"
                               "  subgraph loop0 [\"repeat 4\"]\n"
                               "  w2[[\"Linear net.layer.#42;.fc (slot: any kind)\"]]\n"
                               "  w3[\"Tanh net.layer.#42;\"]\n"
                               "  end\n"
                               "  out0([\"output\"])\n"
                               "  w0 -->|\"[batch, tokens, 6]<br>24 x batch x tokens bytes\"| w1\n"
                               "  w1 -->|\"[batch, tokens, 6]<br>24 x batch x tokens bytes\"| w2\n"
                               "  w2 -->|\"[batch, tokens, 6]<br>24 x batch x tokens bytes\"| w3\n"
                               "  w3 -.->|\"next time\"| w1\n"
                               "  w3 -->|\"[batch, tokens, 6]<br>24 x batch x tokens bytes\"| out0\n");
  CHECK(has(mermaid<Repeated>({.batch = 2, .tokens = 5}),
            "  w2 -->|\"[batch, tokens, 6]<br>240 bytes\"| w3\n"));
}

TEST_CASE("The DOT digraph has loops as clusters and bytes at its edges and marks slots") {
  CHECK(graphviz<Repeated>() ==
        "digraph net {\n"
        "  node [shape=box];\n"
        "  w0 [label=\"input\", shape=ellipse];\n"
        "  w1 [label=\"Copy\\nnet\"];\n"
        "  subgraph cluster_0 {\n"
        "    label=\"repeat 4\";\n"
        "    w2 [label=\"Linear\\nnet.layer.*.fc\\nslot: any kind\", peripheries=2, style=filled];\n"
        "    w3 [label=\"Tanh\\nnet.layer.*\"];\n"
        "  }\n"
        "  out0 [label=\"output\", shape=ellipse];\n"
        "  w0 -> w1 [label=\"[batch, tokens, 6]\\n24 x batch x tokens bytes\"];\n"
        "  w1 -> w2 [label=\"[batch, tokens, 6]\\n24 x batch x tokens bytes\"];\n"
        "  w2 -> w3 [label=\"[batch, tokens, 6]\\n24 x batch x tokens bytes\"];\n"
        "  w3 -> w1 [label=\"next time\", style=dashed];\n"
        "  w3 -> out0 [label=\"[batch, tokens, 6]\\n24 x batch x tokens bytes\"];\n"
        "}\n");
  CHECK(has(graphviz<Repeated>({.batch = 2, .tokens = 5}),
            "  w2 -> w3 [label=\"[batch, tokens, 6]\\n240 bytes\"];\n"));
}

TEST_CASE("Nested repeats are clusters in clusters with balanced braces") {
  const std::string dot = graphviz<Nested<3, 2>>();
  CHECK(depth_of_braces(dot) == 3);
  CHECK(count_of(dot, "subgraph cluster_") == 2);
  CHECK(has(dot, "  subgraph cluster_0 {\n    label=\"repeat 3\";\n"));
  CHECK(has(dot, "    subgraph cluster_1 {\n      label=\"repeat 2\";\n"));
  CHECK(depth_of_braces(graphviz<Encoder<8, 3>>()) == 2);
  CHECK(depth_of_braces(graphviz<Mlp>()) == 1);
  const std::string flowchart = mermaid<Nested<3, 2>>();
  CHECK(count_of(flowchart, "  subgraph ") == count_of(flowchart, "  end\n"));
}

TEST_CASE("What is read after a loop comes from the loop's last step for even and odd counts") {
  const std::string even = graphviz<Encoder<8, 2>>();
  const std::string odd = graphviz<Encoder<8, 3>>();
  std::string same = odd;
  same.replace(same.find("repeat 3"), 8, "repeat 2");
  CHECK(even == same);
  CHECK(has(even, "w12 -> w13 [")); // Add -> MeanPool
  CHECK(has(even, "out1 [label=\"output hidden\""));
  CHECK(has(even, "w12 -> out1 ["));
}

TEST_CASE("What is repeated once has no edge to a next time") {
  CHECK(!has(graphviz<Encoder<8, 1>>(), "next time"));
  CHECK(!has(mermaid<Encoder<8, 1>>(), "next time"));
}

TEST_CASE("Drawings name the kinds of a slot that narrows them and mark no layer without one") {
  using Net = Sequential<Linear<"a", 4, 4, Slot<Lora, Dora>>, Linear<"b", 4, 4, NoSlot>>;
  CHECK(has(graphviz<Net>(), "[label=\"Linear\\na\\nslot: LoRA, DoRA\", peripheries=2, style=filled];"));
  CHECK(has(graphviz<Net>(), "[label=\"Linear\\nb\"];"));
  CHECK(has(mermaid<Net>(), "[[\"Linear a (slot: LoRA, DoRA)\"]]"));
  CHECK(has(mermaid<Net>(), "[\"Linear b\"]"));
}

TEST_CASE("What would end a label is escaped") {
  CHECK(dot_escaped("a\"b\\c") == "a\\\"b\\\\c");
  CHECK(mermaid_escaped("a\"b#c<d`e*") == "a#34;b#35;c#60;d#96;e#42;");
  using Quoted = Linear<"say \"hi\"", 2, 2, NoSlot>;
  CHECK(has(graphviz<Quoted>(), "[label=\"Linear\\nsay \\\"hi\\\"\"];"));
  CHECK(depth_of_braces(graphviz<Linear<"{\"", 2, 2>>()) == 1);
}

// SPDX-License-Identifier: Apache-2.0
#include "support/nets.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("A description is a table and a Mermaid graph of the program") {
  using Net = Scope<"net", Repeat<"layer", 4, Sequential<Linear<"fc", 6, 6>, Tanh>>>;
  CHECK(describe<Net>() == "8 weights, 168 parameters, 4 adapter slots\n"
                           "op               path                                          output            "
                           "        weight         slot\n"
                           "--               ----                                          ------            "
                           "        ------         ----\n"
                           "Copy             net                                           [batch, tokens, "
                           "6]\n"
                           "repeat 4 times\n"
                           "Linear           net.layer.*.fc                                [batch, tokens, "
                           "6]        [6, 6]         any kind\n"
                           "Tanh             net.layer.*                                   [batch, tokens, "
                           "6]\n"
                           "end of repeat\n"
                           "\n"
                           "flowchart TD\n"
                           "  w0([input [batch, tokens, 6]])\n"
                           "  w1[\"Copy net\"]\n"
                           "  w0 --> w1\n"
                           "  subgraph loop0 [repeat 4]\n"
                           "  w2[\"Linear net.layer.*.fc (slot: any kind)\"]\n"
                           "  w1 --> w2\n"
                           "  w3[\"Tanh net.layer.*\"]\n"
                           "  w2 --> w3\n"
                           "  end\n"
                           "  w1 --> out0([output [batch, tokens, 6]])\n");
}

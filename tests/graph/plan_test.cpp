// SPDX-License-Identifier: Apache-2.0
#include "support/nets.hpp"
#include "support/plan_check.hpp"

#include <tenon/models/bert.hpp>

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("Wires that are alive together never share bytes and the plan is near the least possible") {
  const auto check = []<class Net>() {
    for (const Dims& dims : {Dims{1, 1}, Dims{1, 256}, Dims{7, 13}, Dims{32, 3}}) check_plan_of<Net>(dims);
  };
  check.operator()<Mlp>();
  check.operator()<Encoder<8, 2>>();
  check.operator()<Nested<2, 3>>();
  check.operator()<models::MiniLM>();
  check_plan_of<models::MiniLM>({.tokens = 256}, 3);
}

TEST_CASE("An activation in place costs no second buffer") {
  // up's output [t, 10] is written over by the Gelu; beside it only down's output [t, 6] is alive.
  static_assert(activation_bytes<Mlp>({.tokens = 64}) == 64 * 4 * (10 + 6));
}

TEST_CASE("The encoder of the design page plans under 4 MiB for 256 tokens") {
  static_assert(activation_bytes<models::BertEncoder<models::minilm_l6>>({.tokens = 256}) <= 4 * MiB);
}

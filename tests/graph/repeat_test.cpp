// SPDX-License-Identifier: Apache-2.0
#include "support/nets.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("A repeat is one loop whose buffers change places") {
  const Program& program = program_of<Repeat<"layer", 5, Sequential<Linear<"fc", 6, 6>, Tanh>>>();
  REQUIRE(program.loops.size() == 1);
  const Loop& loop = program.loops[0];
  CHECK(loop.count == 5);
  CHECK(loop.carries[0] != loop.results[0]);
  CHECK(program.outputs[0] == loop.results[0]); // after an odd number of rounds the result is where it was made
  CHECK(program_of<Repeat<"layer", 4, Sequential<Linear<"fc", 6, 6>, Tanh>>>().outputs[0] ==
        program_of<Repeat<"layer", 4, Sequential<Linear<"fc", 6, 6>, Tanh>>>().loops[0].carries[0]);
}

TEST_CASE("Loops in loops multiply their copies") {
  const Program& program = program_of<Nested<3, 2>>();
  REQUIRE(program.loops.size() == 2);
  CHECK(program.loops[0].copies == 3);
  CHECK(program.loops[1].copies == 6);
  CHECK(program.loops[1].depth == 1);
  CHECK(program.slot_count == 9);
}

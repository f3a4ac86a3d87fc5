// SPDX-License-Identifier: Apache-2.0
#include <tenon/core/text_table.hpp>

#include <doctest/doctest.h>

using namespace tenon;

TEST_CASE("Columns are as wide as their widest cell and lines end with their text") {
  CHECK(text_table({{"slot", "rank"}, {"up", "16"}, {"down.q", ""}, {"x"}}) == "slot    rank\n"
                                                                               "up      16\n"
                                                                               "down.q\n"
                                                                               "x\n");
  CHECK(text_table({}).empty());
}

TEST_CASE("Numbers have six digits at most") {
  CHECK(rounded_text(0.5) == "0.5");
  CHECK(rounded_text(-2) == "-2");
  CHECK(rounded_text(1.0 / 3) == "0.333333");
  CHECK(rounded_text(1e-9) == "1e-09");
}

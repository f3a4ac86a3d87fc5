// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/gpu/side_terms.hpp>

#include <support/linear_case.hpp>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("A rank beyond what is taken together goes in parts, and so do rows with gains") {
  LinearCase c(3, 5000, 20, bf16);
  kernels::LowRankTerm& term = c.add_term(2, 4990, gpu::side_rank + 37, bf16, 0.5f);
  c.check();
  term.row_gain = c.gain(4990);
  term.rank_gain = c.gain(gpu::side_rank + 37);
  CHECK(4990 * gpu::side_rank > gpu::gained_floats);
  c.check();
}

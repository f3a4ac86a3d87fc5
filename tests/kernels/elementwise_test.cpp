// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/elementwise.hpp>

#include <support/allocation_probe.hpp>
#include <support/naive.hpp>

#include <cstdint>
#include <initializer_list>

using namespace tenon::kernels;
using namespace tenon::test;

TEST_CASE("A sum of two spans is the same in place and at any address") {
  for (const std::int64_t size :
       {std::int64_t{1}, std::int64_t{61}, lane_count, lane_count + 1, std::int64_t{300}}) {
    FloatMatrix a(1, size, 1);
    const FloatMatrix b(1, size, 2, {.shift = 4});
    FloatMatrix y(1, size, 3, {.shift = 8});
    const AllocationProbe probe;
    add(a.view.row_span(0), b.view.row_span(0), y.view.row_span(0));
    const auto taken = probe.count();
    CHECK(taken == 0);
    bool exact = true;
    for (std::int64_t i = 0; i < size; ++i)
      exact = exact && y.view.data[i] == a.view.data[i] + b.view.data[i];
    CHECK(exact);
    add(a.view.row_span(0), b.view.row_span(0), a.view.row_span(0));
    CHECK(same_bits(a.view, y.view));
  }
}

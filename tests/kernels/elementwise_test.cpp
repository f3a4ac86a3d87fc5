// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/elementwise.hpp>

#include <support/allocation_probe.hpp>
#include <support/naive.hpp>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

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

TEST_CASE("A product of two spans is the same in place of either and at any address") {
  for (const std::int64_t size :
       {std::int64_t{1}, std::int64_t{61}, lane_count, lane_count + 1, std::int64_t{300}}) {
    FloatMatrix a(1, size, 1);
    FloatMatrix b(1, size, 2, {.shift = 4});
    FloatMatrix y(1, size, 3, {.shift = 8});
    const AllocationProbe probe;
    multiply(a.view.row_span(0), b.view.row_span(0), y.view.row_span(0));
    const auto taken = probe.count();
    CHECK(taken == 0);
    bool exact = true;
    for (std::int64_t i = 0; i < size; ++i)
      exact =
          exact && y.view.data[i] == static_cast<float>(a(0, i) * b(0, i)); // exact in double, rounded once
    CHECK(exact);
    FloatMatrix over_first(1, size, 1);
    multiply(over_first.view.row_span(0), b.view.row_span(0), over_first.view.row_span(0));
    CHECK(same_bits(over_first.view, y.view));
    multiply(a.view.row_span(0), b.view.row_span(0), b.view.row_span(0));
    CHECK(same_bits(b.view, y.view));
  }
}

TEST_CASE("A NaN of either factor, and infinity times zero, are NaN and stay at their places") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const std::int64_t size = lane_count + 3;
  FloatMatrix a(1, size, 1);
  FloatMatrix b(1, size, 2);
  a.view.data[2] = nan;
  b.view.data[lane_count] = nan;
  a.view.data[size - 1] = infinity;
  b.view.data[size - 1] = 0.0f;
  FloatMatrix y(1, size, 3);
  multiply(a.view.row_span(0), b.view.row_span(0), y.view.row_span(0));
  for (std::int64_t i = 0; i < size; ++i)
    CHECK(std::isnan(y.view.data[i]) == (i == 2 || i == lane_count || i == size - 1));
}

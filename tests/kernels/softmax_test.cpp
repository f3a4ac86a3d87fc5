// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/softmax.hpp>

#include <support/allocation_probe.hpp>
#include <support/naive.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <vector>

using namespace tenon::kernels;
using namespace tenon::test;

TEST_CASE("A softmax agrees with float64 and its rows sum to one") {
  for (const std::int64_t cols : {1, 7, 64, 65, 131}) {
    FloatMatrix x(3, cols, 1, {.padding = 2});
    for (std::int64_t i = 0; i < 3; ++i)
      for (float& v : x.view.row_span(i)) v *= 20.0f;
    FloatMatrix y(3, cols, 2, {.padding = 1});
    softmax(x.view, y.view);
    CHECK(y.padding_untouched());
    for (std::int64_t i = 0; i < 3; ++i) {
      double sum = 0;
      double largest = -1e300;
      for (std::int64_t j = 0; j < cols; ++j) largest = std::max(largest, x(i, j));
      for (std::int64_t j = 0; j < cols; ++j) sum += std::exp(x(i, j) - largest);
      double worst = 0;
      double total = 0;
      for (std::int64_t j = 0; j < cols; ++j) {
        const double exact = std::exp(x(i, j) - largest) / sum;
        worst = std::max(worst, std::abs(y(i, j) - exact) / exact);
        total += y(i, j);
      }
      CHECK(worst <= 3e-6); // an exponent of up to 40 is rounded: 40 * 2^-24 relative; then exp and the sum
      CHECK(std::abs(total - 1) <= 1e-6);
    }
  }
}

TEST_CASE("A masked score gets no weight and a row of them is uniform") {
  std::array<float, 4> x{1.0f, masked_score, 1.0f, -200.0f};
  softmax_row(x, x);
  CHECK(x == std::array<float, 4>{0.5f, 0.0f, 0.5f, 0.0f});
  std::array<float, 4> all{masked_score, masked_score, masked_score, masked_score};
  softmax_row(all, all);
  CHECK(all == std::array<float, 4>{0.25f, 0.25f, 0.25f, 0.25f});
}

TEST_CASE("A softmax does not overflow and passes a NaN on") {
  std::array<float, 3> x{3e38f, 3e38f, -3e38f};
  softmax_row(x, x);
  CHECK(x == std::array<float, 3>{0.5f, 0.5f, 0.0f});
  std::array<float, 3> bad{0.0f, std::numeric_limits<float>::quiet_NaN(), 1.0f};
  softmax_row(bad, bad);
  CHECK(std::isnan(bad[0]));
  CHECK(std::isnan(bad[1]));
}

TEST_CASE("A softmax is the same in place and at any address") {
  for (const std::int64_t cols : {1, 61, 64, 65}) {
    const FloatMatrix x(4, cols, 1);
    FloatMatrix y(4, cols, 2);
    FloatMatrix shifted(4, cols, 1, {.shift = 4, .padding = 3});
    const AllocationProbe probe;
    softmax(x.view, y.view);
    softmax(shifted.view, shifted.view);
    const auto taken = probe.count();
    CHECK(taken == 0);
    CHECK(same_bits(y.view, shifted.view));
  }
}

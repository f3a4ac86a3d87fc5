// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/pooling.hpp>

#include <support/allocation_probe.hpp>
#include <support/naive.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

using namespace tenon::kernels;
using namespace tenon::test;

namespace {

Twin exact_mean(const FloatMatrix& x, std::span<const float> mask, std::int64_t batch) {
  const std::int64_t tokens = x.view.rows / batch;
  Twin twin(batch, x.view.cols);
  for (std::int64_t i = 0; i < batch; ++i) {
    const auto keeps = [&](std::int64_t t) { return mask.empty() || mask[static_cast<std::size_t>(t)] != 0; };
    double kept = 0;
    for (std::int64_t t = i * tokens; t < (i + 1) * tokens; ++t) kept += keeps(t) ? 1 : 0;
    for (std::int64_t t = i * tokens; t < (i + 1) * tokens; ++t)
      for (std::int64_t j = 0; keeps(t) && j < twin.cols; ++j)
        twin.add(i, j, x(t, j) / kept, std::abs(x(t, j) / kept));
  }
  return twin;
}

} // namespace

TEST_CASE("A mean over the kept tokens agrees with float64") {
  const std::vector<float> mask{1, 1, 0, 0, 1, 0, 1, 1, 1, 1};
  for (const std::int64_t width : {1, 31, 64, 65}) {
    const FloatMatrix x(10, width, 1, {.padding = 2});
    for (const bool masked : {false, true}) {
      const std::span<const float> used = masked ? std::span<const float>(mask) : std::span<const float>();
      FloatMatrix y(2, width, 2, {.padding = 1});
      mean_pool(x.view, used, y.view);
      CHECK(error_in_units(y.view, exact_mean(x, used, 2)) <= 1.01); // sums in double: one rounding
      CHECK(y.padding_untouched());
    }
  }
}

TEST_CASE("A sequence with every token masked gives zeros") {
  const FloatMatrix x(4, 9, 1);
  FloatMatrix y(2, 9, 2);
  mean_pool(x.view, std::vector<float>{1, 1, 0, 0}, y.view);
  for (const float v : y.view.row_span(1)) CHECK(v == 0.0f);
  CHECK(y.view.row(0)[0] != 0.0f);
}

TEST_CASE("The bits of a mean do not depend on addresses and nothing is allocated") {
  const std::vector<float> mask{1, 0, 1, 1, 1, 1};
  const FloatMatrix x(6, 67, 1);
  const FloatMatrix shifted(6, 67, 1, {.shift = 4, .padding = 5});
  FloatMatrix y(3, 67, 2);
  FloatMatrix z(3, 67, 2, {.shift = 12});
  const AllocationProbe probe;
  mean_pool(x.view, mask, y.view);
  mean_pool(shifted.view, mask, z.view);
  const auto taken = probe.count();
  CHECK(taken == 0);
  CHECK(same_bits(y.view, z.view));
}

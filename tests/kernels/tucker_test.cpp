// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/tucker.hpp>

#include <support/naive.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

TEST_CASE("A core and a factor become one factor, in double and rounded once") {
  for (const DType type : weight_dtypes)
    for (const std::int64_t places : {1, 9}) {
      constexpr std::int64_t n = 4, m = 3, in = 11;
      const StoredMatrix core(n, m * places, type, 1, {.shift = 1});
      const StoredMatrix right(m, in, type, 2, {.padding = 2});
      std::vector<float> to(static_cast<std::size_t>(n * in * places) + 1, -7.0f);
      fold_core(core.view, right.view, to.data());
      CHECK(to.back() == -7.0f);
      for (std::int64_t a = 0; a < n; ++a)
        for (std::int64_t i = 0; i < in; ++i)
          for (std::int64_t s = 0; s < places; ++s) {
            double sum = 0;
            double size = 0;
            for (std::int64_t k = 0; k < m; ++k) {
              sum += core(a, k * places + s) * right(k, i);
              size += std::abs(core(a, k * places + s) * right(k, i));
            }
            const auto got = static_cast<double>(to[static_cast<std::size_t>((a * in + i) * places + s)]);
            CHECK(std::abs(got - sum) <= 1.001 * float_unit * size);
          }
    }
}

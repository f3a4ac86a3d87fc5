// SPDX-License-Identifier: Apache-2.0
#include "support/naive.hpp"

#include <tenon/kernels/transpose.hpp>

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

TEST_CASE("A matrix of any size, whole blocks or not, is turned round") {
  for (const std::int64_t rows : {1, 7, 16, 17, 50})
    for (const std::int64_t cols : {1, 5, 16, 33}) {
      const FloatMatrix x(rows, cols, 1, {.padding = 3});
      FloatMatrix y(cols, rows, 2, {.padding = 1});
      transpose(x.view, y.view);
      std::int64_t wrong = 0;
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < cols; ++j) wrong += y(j, i) == x(i, j) ? 0 : 1;
      CHECK(wrong == 0);
      CHECK(y.padding_untouched());
    }
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/panels.hpp>

#include <support/naive.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

using namespace tenon::kernels;
using namespace tenon::test;

TEST_CASE("Panels of a transposed matrix hold each element once, and zeros past the last column") {
  for (const std::int64_t width : {8, 16, 32})
    for (const std::int64_t rows : {1, 3, 8, 16, 33})
      for (const std::int64_t depth : {1, 4, 7, 20}) {
        const FloatMatrix x(rows, depth, 1, {.padding = 2});
        std::vector<float> panels(static_cast<std::size_t>(panel_floats(depth, rows, width)), -1.0f);
        make_transposed_panels(x.view, width, panels.data());
        bool right = true;
        for (std::int64_t i = 0; i < (rows + width - 1) / width * width; ++i)
          for (std::int64_t k = 0; k < depth; ++k) {
            const float got =
                panels[static_cast<std::size_t>(i / width * width * depth + k * width + i % width)];
            right = right && got == (i < rows ? x.view.row(i)[k] : 0.0f);
          }
        INFO(width, " ", rows, " ", depth);
        CHECK(right);
      }
}

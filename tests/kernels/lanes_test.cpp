// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/lanes.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

using namespace tenon::kernels;

TEST_CASE("Blocks cover a span of any length once and pad its end") {
  for (const std::int64_t size :
       {std::int64_t{0}, std::int64_t{1}, lane_count - 1, lane_count, 2 * lane_count + 3}) {
    const std::vector<float> x(static_cast<std::size_t>(size), 1.0f);
    float sum = 0;
    std::int64_t next = 0;
    visit_lanes(x, 1000.0f, [&](float* block, std::int64_t begin, std::int64_t count) {
      CHECK(begin == next);
      next += count;
      for (std::int64_t i = 0; i < lane_count; ++i) {
        if (i < count)
          sum += block[i];
        else
          CHECK(block[i] == 1000.0f);
      }
    });
    CHECK(next == size);
    CHECK(sum == static_cast<float>(size));
  }
}

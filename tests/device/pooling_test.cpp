// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "support/step_case.hpp"

#include <tenon/layers/pooling.hpp>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("MeanPool on a device is the host's, with and without a mask, and nothing kept gives zeros") {
  for (const std::int64_t tokens : {1, 7, 130}) {
    StepCase one;
    one.input({3, tokens, 65}).output({3, 65});
    CHECK(difference(one.on_device("MeanPool"), one.on_host(&mean_pool_step)) <= device_tolerance);
    std::vector<float> mask;
    for (std::int64_t i = 0; i < 3 * tokens; ++i) mask.push_back(i / tokens == 1 || i % 2 == 1 ? 0.0f : 1.0f);
    one.input({3, tokens}, mask);
    const std::vector<float> y = one.on_device("MeanPool");
    CHECK(difference(y, one.on_host(&mean_pool_step)) <= device_tolerance);
    CHECK(std::all_of(y.begin() + 65, y.begin() + 130, [](float v) { return v == 0; }));
  }
}

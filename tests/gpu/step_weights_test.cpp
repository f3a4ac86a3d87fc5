// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/gpu/step_weights.hpp>

#include <cstdint>

using namespace tenon;

TEST_CASE("The fault that a device reports first stays") {
  std::int32_t fault = 0;
  gpu::report_fault(&fault, 7);
  gpu::report_fault(&fault, 9);
  CHECK(fault == 8);
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/gpu/step_table.hpp>
#include <tenon/session/device_ops.hpp>

#include <algorithm>

using namespace tenon;

TEST_CASE("The names that a net is checked against are those of the steps that a device has") {
  for (const gpu::DeviceStep& step : gpu::device_steps) {
    CAPTURE(step.op);
    CHECK(is_device_op(step.op));
    CHECK((step.run != nullptr));
    CHECK(gpu::find_device_step(step.op) == &step);
  }
  for (const std::string_view op : device_ops) {
    CAPTURE(op);
    CHECK((gpu::find_device_step(op) != nullptr));
  }
}

TEST_CASE("Both lists of a device's ops are sorted and name an op once") {
  CHECK(std::ranges::adjacent_find(device_ops, std::ranges::greater_equal{}) == device_ops.end());
  CHECK(std::ranges::adjacent_find(gpu::device_steps, std::ranges::greater_equal{}, &gpu::DeviceStep::op) ==
        std::ranges::end(gpu::device_steps));
}

TEST_CASE("No device has a step for an unknown op") {
  static_assert(!is_device_op("Convolve") && !is_device_op(""));
  CHECK(gpu::find_device_step("Convolve") == nullptr);
  CHECK(gpu::find_device_step("") == nullptr);
}

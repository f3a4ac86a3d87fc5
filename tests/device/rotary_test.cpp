// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "support/step_case.hpp"

#include <tenon/layers/rotary.hpp>

using namespace tenon;
using namespace tenon::test;

namespace {

void check(StepCase& one, std::string_view op, StepFunction host) {
  const std::vector<float> expected = one.on_host(host);
  CHECK(difference(one.on_device(op), expected) <= device_tolerance);
  CHECK(difference(one.over(0).on_device(op), expected) <= device_tolerance);
}

} // namespace

TEST_CASE("Rotary on a device is the host's, after earlier calls' tokens and with llama3's stretching") {
  for (const std::int64_t width : {2, 6, 64, 256})
    for (const std::int64_t past : {0, 5000})
      for (const float factor : {1.0f, 8.0f}) {
        CAPTURE(width);
        StepCase one;
        one.input({2, 5, 3 * width}).output({2, 5, 3 * width});
        one.context.past = past;
        one.context.params = {.integers = {width}, .reals = {500000, factor, 1, 4, 8192}};
        check(one, "Rotary", &rotary_step);
      }
}

TEST_CASE("RotaryGrid on a device is the host's") {
  StepCase one;
  one.input({2, 2, 3, 5, 2 * 14}).output({2, 2, 3, 5, 2 * 14});
  one.context.params = rotary_params({.first = 6, .second = 4, .third = 4});
  check(one, "RotaryGrid", &rotary_grid_step);
}

TEST_CASE("RotaryAt on a device is the host's, with places that are the same for all sequences") {
  StepCase one;
  one.input({2, 7, 2 * 12}).input({7, 3}, 50).output({2, 7, 2 * 12});
  one.context.params = rotary_params({.first = 2, .second = 6, .third = 4, .theta = 256});
  check(one, "RotaryAt", &rotary_at_step);
}

TEST_CASE("A device refuses rotary positions of a head wider than it holds frequencies for") {
  StepCase one;
  one.input({1, 1, 258}).output({1, 1, 258});
  one.context.params = {.integers = {258}, .reals = {10000, 1, 1, 4, 8192}};
  CHECK_THROWS_WITH_AS((void)one.on_device("Rotary"),
                       "on a device: rotary positions of a head of at most 256 numbers, got 258", error);
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "support/step_case.hpp"

#include <tenon/layers/modulation.hpp>
#include <tenon/layers/timestep.hpp>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("ModulatedNorm on a device is the host's, each sequence with its own scale and shift") {
  for (const std::int64_t d : {1, 33, 300}) {
    StepCase one;
    one.input({3, 2, 5, d}).input({3, 6 * d}).output({3, 2, 5, d});
    one.context.params = {.integers = {d, 4, 1}, .reals = {1e-6f}};
    const std::vector<float> expected = one.on_host(&modulated_norm_step);
    CHECK(difference(one.on_device("ModulatedNorm"), expected) <= device_tolerance);
    CHECK(difference(one.over(0).on_device("ModulatedNorm"), expected) <= device_tolerance);
  }
}

TEST_CASE("GatedAdd on a device is the host's, whichever input it writes over") {
  StepCase one;
  one.input({3, 5, 7}).input({3, 5, 7}).input({3, 4 * 7}).output({3, 5, 7});
  one.context.params.integers = {7, 2};
  const std::vector<float> expected = one.on_host(&gated_add_step);
  CHECK(difference(one.on_device("GatedAdd"), expected) <= device_tolerance);
  CHECK(difference(one.over(0).on_device("GatedAdd"), expected) <= device_tolerance);
  CHECK(difference(one.over(1).on_device("GatedAdd"), expected) <= device_tolerance);
}

TEST_CASE("AddPerSequence on a device has the host's bits") {
  StepCase one;
  one.input({3, 2, 5, 7}).input({3, 7}).output({3, 2, 5, 7});
  const std::vector<float> expected = one.on_host(&add_per_sequence_step);
  CHECK(one.on_device("AddPerSequence") == expected);
  CHECK(one.over(0).on_device("AddPerSequence") == expected);
}

TEST_CASE("AddModulationTable on a device has the host's bits, with all parts given or one") {
  for (const DType dtype : weight_dtypes)
    for (const std::int64_t given : {1, 6}) {
      StepCase one;
      one.input({3, given * 7}).weight(dtype, {1, 6, 7}).output({3, 6 * 7});
      CHECK(one.on_device("AddModulationTable") == one.on_host(&add_modulation_table_step));
    }
}

TEST_CASE("TimestepFeatures on a device are the host's, of one number and of several") {
  StepCase one;
  one.input({3, 2}, 1).output({3, 2 * 34});
  one.context.params = {.integers = {34}, .reals = {1000}};
  CHECK(difference(one.on_device("TimestepFeatures"), one.on_host(&timestep_features_step)) <=
        device_tolerance);
}

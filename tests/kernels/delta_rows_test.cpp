// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/delta_rows.hpp>

#include <support/allocation_probe.hpp>
#include <support/delta_cases.hpp>
#include <support/instruction_sets.hpp>
#include <support/naive.hpp>

#include <algorithm>
#include <cstdint>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

TEST_CASE("Rows of Delta agree with float64 for every kind in every instruction set, however they are cut") {
  for (std::uint64_t number = 0; number < 40 * DeltaCase::kinds; ++number) {
    const DeltaCase one(number);
    const WeightMatrix base = one.base().view;
    INFO("case ", number, ": ", one.text());
    Twin twin(base.rows, base.cols);
    const FloatMatrix start(base.rows, base.cols, number + 9);
    twin.add_all(start);
    const Twin delta = exact_delta(one.term, base);
    for (std::int64_t i = 0; i < base.rows; ++i)
      for (std::int64_t j = 0; j < base.cols; ++j) twin.add(i, j, delta(i, j), delta.size(i, j));
    for_each_instruction_set([&](const VectorKernels& kernels) {
      INFO(instruction_set_name(kernels.set));
      FloatMatrix got(base.rows, base.cols, number + 9, {.padding = 3});
      FloatMatrix single(base.rows, base.cols, number + 9);
      const ExactScratch room(delta_rows_scratch_bytes(base.rows, base.cols));
      std::int64_t at = 0;
      for (std::int64_t step = 1; at < base.rows; at += step, step = 1 + (step + 6) % delta_strip_rows) {
        step = std::min(step, base.rows - at);
        add_delta_rows(one.term, base, at, got.view.rows_from(at, step), room.scratch(), kernels);
      }
      for (std::int64_t i = 0; i < base.rows; ++i)
        add_delta_rows(one.term, base, i, single.view.rows_from(i, 1), room.scratch(), kernels);
      CHECK((room.guard_untouched() && got.padding_untouched()));
      CHECK(error_in_units(got.view, twin) <= delta_roundings(one.term, base.cols) + 2);
      CHECK(same_bits(got.view, single.view));
    });
  }
}

TEST_CASE("Making rows of Delta allocates nothing") {
  for (std::uint64_t number = 0; number < 3 * DeltaCase::kinds; ++number) {
    const DeltaCase one(number);
    const WeightMatrix base = one.base().view;
    const FloatMatrix strip(std::min(base.rows, delta_strip_rows), base.cols, 1);
    const ExactScratch room(delta_rows_scratch_bytes(base.rows, base.cols));
    const AllocationProbe probe;
    add_delta_rows(one.term, base, 0, strip.view, room.scratch());
    const auto taken = probe.count();
    CHECK(taken == 0);
  }
}

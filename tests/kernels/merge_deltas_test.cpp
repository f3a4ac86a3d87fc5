// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/merge_deltas.hpp>

#include <support/allocation_probe.hpp>
#include <support/delta_cases.hpp>
#include <support/instruction_sets.hpp>
#include <support/merge_checks.hpp>
#include <support/naive.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

[[nodiscard]] std::vector<std::byte> merged_deltas(WeightMatrix base, std::span<const LowRankTerm> terms,
                                                   std::span<const DeltaTerm> others,
                                                   const VectorKernels& kernels, MergeLoss* loss = nullptr) {
  std::vector<std::byte> out(static_cast<std::size_t>(base.bytes()) + 1, std::byte{0x5A});
  const ExactScratch room(merge_deltas_scratch_bytes(base.rows, base.cols));
  merge_deltas(base, terms, others, base.rows, out.data(), room.scratch(), kernels, {.loss = loss});
  CHECK(room.guard_untouched());
  CHECK(out.back() == std::byte{0x5A});
  out.pop_back();
  return out;
}

} // namespace

TEST_CASE("Merges of every kind beside a LoRA agree with float64 up to one rounding, however they are cut") {
  for (std::uint64_t number = 0; number < 12 * DeltaCase::kinds; ++number) {
    const DeltaCase one(number + 5000);
    const WeightMatrix base = one.base().view;
    INFO("case ", number, ": ", one.text());
    RandomCase random(number);
    const std::int64_t rank = random.size(300, {1, 16, delta_depth});
    const Factors f(base.rows, base.cols, rank, random.dtype(), 0.3f, 100);
    std::vector<LowRankTerm> terms;
    if (random.below(2) == 0) terms.push_back(f.term);
    const std::vector<DeltaTerm> others(static_cast<std::size_t>(1 + random.below(2)), one.term);

    Twin twin(base.rows, base.cols);
    twin.add_all(one.base());
    Twin change(base.rows, base.cols);
    if (!terms.empty()) change.add_product(static_cast<double>(f.term.scale), rank, f.b, f.a);
    const Twin delta = exact_delta(one.term, base);
    for (std::int64_t i = 0; i < base.rows; ++i)
      for (std::int64_t j = 0; j < base.cols; ++j) {
        for (std::size_t k = 0; k < others.size(); ++k) change.add(i, j, delta(i, j), delta.size(i, j));
        twin.add(i, j, change(i, j), change.size(i, j));
      }
    const double roundings = delta_roundings(one.term, base.cols) + static_cast<double>(rank + 8);
    for_each_instruction_set([&](const VectorKernels& kernels) {
      INFO(instruction_set_name(kernels.set));
      MergeLoss loss;
      const std::vector<std::byte> got = merged_deltas(base, terms, others, kernels, &loss);
      double worst = 0;
      MergeLoss counted{.weights = base.rows * base.cols};
      for (std::int64_t i = 0; i < base.rows; ++i)
        for (std::int64_t j = 0; j < base.cols; ++j) {
          float value = 0;
          decode(base.dtype, got.data() + (i * base.cols + j) * dtype_bytes(base.dtype), 1, &value);
          const auto stored = static_cast<double>(value);
          const double larger = std::max(std::abs(twin(i, j)), std::abs(stored));
          const double allowed = half_spacing(base.dtype, larger) + roundings * float_unit * twin.size(i, j);
          const double share = std::abs(stored - twin(i, j)) / allowed;
          if (!(share <= worst)) worst = share; // a NaN too
          const double error = stored - one.base()(i, j) - change(i, j);
          counted.error_squared += error * error;
          counted.delta_squared += change(i, j) * change(i, j);
          counted.unmoved += stored == one.base()(i, j) ? 1 : 0;
        }
      CHECK(worst <= 1.0);
      CHECK(loss.weights == counted.weights);
      CHECK(loss.unmoved == counted.unmoved);
      // the float delta that was merged differs from the exact one by its own roundings
      CHECK(std::abs(std::sqrt(loss.delta_squared) - std::sqrt(counted.delta_squared)) <=
            1e-4 * std::sqrt(counted.delta_squared) + 1e-6);
      if (base.dtype != DType::f32)
        CHECK(std::abs(std::sqrt(loss.error_squared) - std::sqrt(counted.error_squared)) <=
              0.02 * std::sqrt(counted.error_squared) + 1e-4 * std::sqrt(counted.delta_squared) + 1e-6);

      CHECK(merged_deltas(base, terms, others, kernels) == got); // not measured
      const ExactScratch room(merge_deltas_scratch_bytes(base.rows, base.cols));
      const std::int64_t row_bytes = base.cols * dtype_bytes(base.dtype);
      std::vector<std::byte> parts(got.size());
      for (std::int64_t at = 0, step = 7; at < base.rows; at += step, step = 5 + step % 23) {
        merge_deltas(base, terms, others, std::min(step, base.rows - at), parts.data() + at * row_bytes,
                     room.scratch(), kernels, {.first_row = at});
      }
      CHECK(parts == got);
    });
  }
}

TEST_CASE("Without other kinds a merge has the bytes of the low-rank merge") {
  const StoredMatrix base(50, 90, DType::bf16, 1);
  const Factors f(50, 90, 20, DType::bf16, 0.5f, 2);
  for_each_instruction_set([&](const VectorKernels& kernels) {
    CHECK(merged_deltas(base.view, {&f.term, 1}, {}, kernels) == merged(base, {&f.term, 1}, 0, kernels));
  });
}

TEST_CASE("A merge of every kind allocates nothing") {
  for (std::uint64_t number = 0; number < DeltaCase::kinds; ++number) {
    const DeltaCase one(number);
    const WeightMatrix base = one.base().view;
    std::vector<std::byte> out(static_cast<std::size_t>(base.bytes()));
    const ExactScratch room(merge_deltas_scratch_bytes(base.rows, base.cols));
    const AllocationProbe probe;
    merge_deltas(base, {}, {&one.term, 1}, base.rows, out.data(), room.scratch());
    const auto taken = probe.count();
    CHECK(taken == 0);
  }
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/amx_merge.hpp>
#include <tenon/kernels/merge.hpp>

#include <support/emulated_tiles.hpp>
#include <support/instruction_sets.hpp>
#include <support/merge_checks.hpp>
#include <support/naive.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

/// The algorithm on an emulated unit.
std::vector<std::byte> emulated(const StoredMatrix& base, std::span<const LowRankTerm> terms,
                                std::size_t shift = 0, MergeLoss* loss = nullptr,
                                InstructionSet set = InstructionSet::portable) {
  const std::int64_t row = base.view.cols * 2;
  std::vector<std::byte> out(static_cast<std::size_t>(base.view.rows * row) + shift + 1, std::byte{0x5A});
  const ExactScratch room(amx_merge_scratch_bytes);
  REQUIRE(fits_tiles(base.view, terms));
  merge_on_tiles<EmulatedTiles>(merge_kernels(set), base.view, terms, out.data() + shift, row, room.scratch(),
                                {.loss = loss});
  CHECK(room.guard_untouched());
  CHECK(out.back() == std::byte{0x5A});
  return {out.begin() + static_cast<std::ptrdiff_t>(shift), out.end() - 1};
}

StoredMatrix weight(std::int64_t rows, std::int64_t cols) {
  return {rows, cols, DType::bf16, 1, {.shift = 3, .padding = 1}};
}

} // namespace

TEST_CASE("A merge on tiles agrees with float64 and with the vector path for every edge of a tile") {
  for_each_instruction_set([](const VectorKernels& kernels) {
    for (const std::int64_t rows : {1, 15, 16, 17, 33})
      for (const std::int64_t cols : {1, 16, 31, 32, 65})
        for (const std::int64_t rank : {1, 2, 31, 32, 33, 65}) {
          const StoredMatrix base = weight(rows, cols);
          const Factors f(rows, cols, rank, DType::bf16, 0.7f, 2, {.shift = 1, .padding = 1});
          MergeLoss loss;
          const auto got = emulated(base, {&f.term, 1}, 1, &loss, kernels.set);
          INFO(instruction_set_name(kernels.set), " ", rows, " ", cols, " ", rank);
          CHECK(merge_error(base, {&f, 1}, got) <= static_cast<double>(rank + 4));
          CHECK(agree_within_one_rounding(DType::bf16, got, merged(base, {&f.term, 1}),
                                          static_cast<double>(rank)));
          CHECK(emulated(base, {&f.term, 1}, 0, nullptr, kernels.set) == got);
          CHECK(loss.weights == rows * cols);
        }
  });
}

TEST_CASE("Terms of several scales and the greatest depth are merged on tiles with one rounding") {
  std::vector<Factors> factors;
  for (const auto& [rank, scale] :
       {std::pair<int, float>{8, 0.5f}, {40, -2.0f}, {3, 0.5f}, {1900, 1e-2f}, {5, -2.0f}})
    factors.emplace_back(33, 70, rank, DType::bf16, scale, static_cast<std::uint64_t>(10 + rank));
  std::vector<LowRankTerm> terms;
  for (const Factors& f : factors) terms.push_back(f.term);
  const StoredMatrix base = weight(33, 70);
  std::vector<std::int64_t> counts;
  CHECK(visit_scales(terms, amx_depth,
                     [&](float, std::int64_t, std::int64_t count) { counts.push_back(count); }) == 63);
  CHECK(counts == std::vector<std::int64_t>{1, 2, 60}); // 8 + 3, 40 + 5, 1900
  MergeLoss loss;
  const auto got = emulated(base, terms, 0, &loss);
  CHECK(merge_error(base, factors, got) <= 2000.0);
  CHECK(agree_within_one_rounding(DType::bf16, got, merged(base, terms), 2000.0));
  CHECK(emulated(base, terms) == got);
}

TEST_CASE("What a merge on tiles loses is counted as on the vector path") {
  const StoredMatrix base = weight(61, 95);
  const Factors f(61, 95, 20, DType::bf16, 3e-3f, 2);
  check_loss_as_of_floats(base, f, [&](MergeLoss* loss) { return emulated(base, {&f.term, 1}, 0, loss); });
}

TEST_CASE("Rows merged on tiles in two parts have the bits of rows merged at once") {
  const StoredMatrix base = weight(50, 70);
  const Factors f(50, 70, 40, DType::bf16, 0.6f, 2);
  const std::vector<std::byte> whole = emulated(base, {&f.term, 1});
  const ExactScratch room(amx_merge_scratch_bytes);
  for (const std::int64_t at : {1, 16, 23, 32, 49})
    check_two_parts(whole, 50, at, [&](std::int64_t first, std::int64_t count, std::byte* out) {
      merge_on_tiles<EmulatedTiles>(merge_kernels(InstructionSet::portable),
                                    base.view.block(first, 0, count, 70), {&f.term, 1}, out, 140,
                                    room.scratch(), {.first_row = first});
    });
}

TEST_CASE("What is not bfloat16 or too long for tiles takes the vector path") {
  const StoredMatrix base = weight(4, 4);
  const StoredMatrix other_type(4, 4, DType::f16, 1);
  const Factors good(4, 4, 2048, DType::bf16, 1.0f, 2);
  const Factors one(4, 4, 1, DType::bf16, 2.0f, 2);
  const Factors other(4, 4, 1, DType::f32, 1.0f, 2);
  const Factors nan(4, 4, 1, DType::bf16, std::numeric_limits<float>::quiet_NaN(), 2);
  CHECK(fits_tiles(base.view, {&good.term, 1}));
  CHECK_FALSE(fits_tiles(other_type.view, {&good.term, 1}));
  CHECK_FALSE(fits_tiles(base.view, {&other.term, 1}));
  CHECK_FALSE(fits_tiles(base.view, {&nan.term, 1}));
  CHECK_FALSE(fits_tiles(base.view, std::vector{good.term, one.term})); // 64 tiles and one of another scale
}

#if defined(__x86_64__)
TEST_CASE("The processor's tiles agree with emulated ones") {
  if (best_instruction_set(cpu_features()) < InstructionSet::amx) {
    MESSAGE("no AMX here");
    return;
  }
  const StoredMatrix base = weight(77, 130);
  const Factors f(77, 130, 70, DType::bf16, 0.7f, 2);
  const auto expected = emulated(base, {&f.term, 1});
  const auto got = merged(base, {&f.term, 1}, 0, vector_kernels(InstructionSet::amx));
  CHECK(agree_within_one_rounding(DType::bf16, got, expected, 70.0));
  WARN(got == expected); // as the manual has its arithmetic
}
#endif

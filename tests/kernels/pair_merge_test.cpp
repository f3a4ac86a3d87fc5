// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/merge.hpp>
#include <tenon/kernels/pair_merge.hpp>

#include <support/emulated_pairs.hpp>
#include <support/merge_checks.hpp>
#include <support/naive.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <utility>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

/// `f(merge)` for plain loops and, where it has them, the processor's pairs.
template <class F>
void for_each_unit(F f) {
  f(emulated_pairs());
  if (best_instruction_set(cpu_features()) >= InstructionSet::avx512_bf16)
    f(merge_kernels(InstructionSet::avx512_bf16));
  else
    MESSAGE("no AVX512_BF16 here");
}

std::vector<std::byte> on_pairs(const MergeKernels& merge, const StoredMatrix& base,
                                std::span<const LowRankTerm> terms, std::size_t shift = 0,
                                MergeLoss* loss = nullptr) {
  const std::int64_t row = base.view.cols * dtype_bytes(base.view.dtype);
  std::vector<std::byte> out(static_cast<std::size_t>(base.view.rows * row) + shift + 1, std::byte{0x5A});
  const ExactScratch room(pair_merge_scratch_bytes);
  REQUIRE(fits_pairs(terms));
  merge_on_pairs(merge, base.view, terms, out.data() + shift, row, room.scratch(), {.loss = loss});
  CHECK(room.guard_untouched());
  CHECK(out.back() == std::byte{0x5A});
  return {out.begin() + static_cast<std::ptrdiff_t>(shift), out.end() - 1};
}

StoredMatrix weight(DType type, std::int64_t rows, std::int64_t cols) {
  return {rows, cols, type, 1, {.shift = 3, .padding = 1}};
}

} // namespace

TEST_CASE("A merge of pairs agrees with float64 and with the merge of floats for every edge of a panel") {
  for_each_unit([](const MergeKernels& merge) {
    for (const DType type : weight_dtypes)
      for (const std::int64_t rows : {1, 7, 8, 9, 25})
        for (const std::int64_t cols : {1, 31, 32, 33, 70})
          for (const std::int64_t rank : {1, 2, 3, 32, 65}) {
            const StoredMatrix base = weight(type, rows, cols);
            const Factors f(rows, cols, rank, DType::bf16, 0.7f, 2, {.shift = 1, .padding = 1});
            MergeLoss loss;
            const auto got = on_pairs(merge, base, {&f.term, 1}, 1, &loss);
            INFO(dtype_name(type), " ", rows, " ", cols, " ", rank);
            CHECK(merge_error(base, {&f, 1}, got) <= static_cast<double>(rank + 4));
            const auto floats = merged(base, {&f.term, 1}, 0, vector_kernels(InstructionSet::portable));
            CHECK(agree_within_one_rounding(type, got, floats, static_cast<double>(rank)));
            CHECK(on_pairs(merge, base, {&f.term, 1}) == got);
            CHECK(loss.weights == rows * cols);
          }
  });
}

TEST_CASE("Terms of several scales and the greatest depth are merged as pairs with one rounding") {
  std::vector<Factors> factors;
  for (const auto& [rank, scale] :
       {std::pair<int, float>{8, 0.5f}, {41, -2.0f}, {3, 0.5f}, {1988, 1e-2f}, {5, -2.0f}})
    factors.emplace_back(33, 70, rank, DType::bf16, scale, static_cast<std::uint64_t>(10 + rank));
  std::vector<LowRankTerm> terms;
  for (const Factors& f : factors) terms.push_back(f.term);
  CHECK(count_steps(terms, pair_ranks) == 6 + 23 + 994); // 8 + 3 and 41 + 5 and 1988 ranks
  for_each_unit([&](const MergeKernels& merge) {
    for (const DType type : weight_dtypes) {
      const StoredMatrix base = weight(type, 33, 70);
      MergeLoss loss;
      const auto got = on_pairs(merge, base, terms, 0, &loss);
      CHECK(merge_error(base, factors, got) <= 2050.0);
      CHECK(agree_within_one_rounding(type, got, merged(base, terms), 2050.0));
      CHECK(on_pairs(merge, base, terms) == got);
    }
  });
}

TEST_CASE("What a merge of pairs loses is counted as by the merge of floats") {
  for_each_unit([](const MergeKernels& merge) {
    const StoredMatrix base = weight(DType::bf16, 61, 95);
    const Factors f(61, 95, 20, DType::bf16, 3e-3f, 2);
    check_loss_as_of_floats(base, f,
                            [&](MergeLoss* loss) { return on_pairs(merge, base, {&f.term, 1}, 0, loss); });
  });
}

TEST_CASE("Rows merged as pairs in two parts have the bits of rows merged at once") {
  for_each_unit([](const MergeKernels& merge) {
    for (const DType type : weight_dtypes) {
      const StoredMatrix base = weight(type, 50, 70);
      const Factors f(50, 70, 40, DType::bf16, 0.6f, 2);
      const std::vector<std::byte> whole = on_pairs(merge, base, {&f.term, 1});
      const ExactScratch room(pair_merge_scratch_bytes);
      for (const std::int64_t at : {1, 16, 23, 32, 49})
        check_two_parts(whole, 50, at, [&](std::int64_t first, std::int64_t count, std::byte* out) {
          merge_on_pairs(merge, base.view.block(first, 0, count, 70), {&f.term, 1}, out,
                         70 * dtype_bytes(type), room.scratch(), {.first_row = first});
        });
    }
  });
}

TEST_CASE("More columns than the panels of a depth hold are merged in slices") {
  for_each_unit([](const MergeKernels& merge) {
    const StoredMatrix base = weight(DType::bf16, 9, 600);
    const Factors f(9, 600, 1000, DType::bf16, 0.01f, 2);
    CHECK(600 * 1000 > pair_panel_elements);
    CHECK(merge_error(base, {&f, 1}, on_pairs(merge, base, {&f.term, 1})) <= 1004.0);
  });
}

TEST_CASE("A term of some of a weight's rows is a term of zeros for the others") {
  constexpr std::int64_t rows = 60;
  constexpr std::int64_t cols = 50;
  constexpr std::int64_t rank = 7;
  const StoredMatrix base = weight(DType::bf16, rows, cols);
  const StoredMatrix a(rank, cols, DType::bf16, 2);
  const StoredMatrix b(31, rank, DType::bf16, 3);
  StoredMatrix dense(rows, rank, DType::bf16, 4);
  std::memset(dense.bytes.data(), 0, static_cast<std::size_t>(rows * rank * 2));
  std::memcpy(dense.bytes.data() + 17 * rank * 2, b.view.data, static_cast<std::size_t>(31 * rank * 2));
  const LowRankTerm term{.a = a.view, .b = b.view, .scale = 0.3f, .first_row = 17};
  const LowRankTerm plain{.a = a.view, .b = dense.view, .scale = 0.3f};
  for_each_unit([&](const MergeKernels& merge) {
    CHECK(on_pairs(merge, base, {&term, 1}) == on_pairs(merge, base, {&plain, 1}));
  });
}

TEST_CASE("Factors of another type, gains, a scale that is no number and too long a rank go as floats") {
  const Factors good(4, 4, 2048, DType::bf16, 1.0f, 2);
  const Factors one(4, 4, 1, DType::bf16, 2.0f, 2);
  const Factors other(4, 4, 1, DType::f16, 1.0f, 2);
  const Factors nan(4, 4, 1, DType::bf16, std::numeric_limits<float>::quiet_NaN(), 2);
  CHECK(fits_pairs({&good.term, 1}));
  CHECK_FALSE(fits_pairs({&other.term, 1}));
  CHECK_FALSE(fits_pairs({&nan.term, 1}));
  CHECK_FALSE(fits_pairs(std::vector{good.term, one.term})); // 1024 pairs and one of another scale
  const std::vector<float> gains(4, 1.0f);
  LowRankTerm term = one.term;
  term.row_gain = gains.data();
  CHECK_FALSE(fits_pairs({&term, 1}));
  term.row_gain = nullptr;
  term.rank_gain = gains.data();
  CHECK_FALSE(fits_pairs({&term, 1}));
}

TEST_CASE("The processor's pairs have the bits of plain loops") {
  if (best_instruction_set(cpu_features()) < InstructionSet::avx512_bf16) {
    MESSAGE("no AVX512_BF16 here");
    return;
  }
  std::vector<Factors> factors;
  for (const float scale : {0.7f, -0.3f}) factors.emplace_back(77, 130, 70, DType::bf16, scale, 2);
  const LowRankTerm terms[] = {factors[0].term, factors[1].term};
  for (const DType type : weight_dtypes)
    for (const std::size_t count : {1u, 2u}) {
      const StoredMatrix base = weight(type, 77, 130);
      const std::span<const LowRankTerm> some(terms, count);
      CHECK(merged(base, some, 0, vector_kernels(InstructionSet::avx512_bf16)) ==
            on_pairs(emulated_pairs(), base, some));
    }
}

TEST_CASE("Pairs take subnormal numbers for zeros, and make none, as the plain loops do") {
  constexpr std::int64_t rows = 40;
  constexpr std::int64_t cols = 66;
  constexpr std::int64_t rank = 6;
  StoredMatrix base(rows, cols, DType::f32, 1);
  std::memset(base.bytes.data(), 0, static_cast<std::size_t>(rows * cols * 4)); // so that any sum is seen
  StoredMatrix a(rank, cols, DType::bf16, 2);
  StoredMatrix b(rows, rank, DType::bf16, 3);
  const auto scale_by = [](StoredMatrix& m, float factor) {
    for (std::int64_t i = 0; i < m.view.rows * m.view.cols; ++i) {
      std::byte* const at = m.bytes.data() + 2 * i;
      float value = 0;
      decode(DType::bf16, at, 1, &value);
      value *= factor;
      encode(DType::bf16, &value, 1, at);
    }
  };
  const LowRankTerm term{a.view, b.view, 1.0f};
  for (const auto& [of_a, of_b] : {std::pair{0x1p-62f, 0x1p-63f}, {0x1p-62f, 0x1p63f}}) {
    scale_by(a, of_a); // products, and then factors, on both sides of 2^-126
    scale_by(b, of_b);
    const auto loops = on_pairs(emulated_pairs(), base, {&term, 1});
    CHECK(loops != merged(base, {&term, 1}, 0, vector_kernels(InstructionSet::portable)));
    CHECK(std::count(loops.begin(), loops.end(), std::byte{0}) < std::ssize(loops) * 3 / 4); // not all
    for_each_unit([&](const MergeKernels& merge) { CHECK(on_pairs(merge, base, {&term, 1}) == loops); });
  }
}

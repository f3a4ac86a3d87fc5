// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/merge.hpp>

#include <support/lane_merges.hpp>
#include <support/merge_checks.hpp>
#include <support/random_cases.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

/// Against float64, where only the last rounding and those of the sum are allowed, and against the host's merge, whose
/// sums have another order: neighbours at most.
void check(const MergeCase& c) {
  const std::vector<std::byte> got = merged_by_lane(c);
  CHECK(rounded_error(c.base.view.dtype, c.exact(), got) <= c.operations());
  const std::vector<kernels::LowRankTerm> host = c.host_terms();
  // a sum of so many products of at most 1 has that magnitude, and each order its own errors of a unit for each
  const auto rank = static_cast<double>(kernels::total_rank(host) + 4);
  CHECK(agree_within_one_rounding(c.base.view.dtype, test::merged(c.base, host), got, 2 * rank * rank));
  CHECK(merged_in_place(c) == got);
}

} // namespace

TEST_CASE(
    "A merge on a device agrees with float64 and with the host for all dtypes and ranks and odd shapes") {
  for (const DType base : weight_dtypes)
    for (const DType factor : weight_dtypes)
      for (const std::int64_t rank : {1, 2, 7, 16, 17, 33, 130}) {
        INFO(dtype_name(base), " ", dtype_name(factor), " ", rank);
        for (const auto [rows, cols] : {RowCols{1, 1}, {5, 131}, {129, 127}, {128, 128}}) {
          MergeCase c{.base = StoredMatrix(rows, cols, base, 1, {.padding = rank % 2})};
          c.add(0, rows, rank, factor, 0.375f, {.padding = 1});
          check(c);
        }
      }
}

TEST_CASE("Up to twelve terms are one pass and are rounded once") {
  for (const DType base : weight_dtypes)
    for (int count = 1; count <= 12; ++count) {
      INFO(dtype_name(base), " ", count);
      MergeCase c{.base = StoredMatrix(37, 141, base, 1)};
      for (int t = 0; t < count; ++t) {
        c.add(0, 37, 1 + 5 * t % 13, weight_dtypes[t % 3], 0.5f - 0.25f * static_cast<float>(t % 5));
        if (t % 2 == 1) c.keep_scale_in_memory();
      }
      check(c);
    }
}

TEST_CASE("Random terms with windows and gains agree with float64 and with the host") {
  for (std::uint64_t number = 0; number < 100; ++number) {
    RandomCase random(number);
    const std::int64_t rows = random.size(300, {1, 64, 128, 256});
    const std::int64_t cols = random.size(300, {1, 64, 128, 256});
    Place place = random.weight_place();
    place.shift = place.shift / 4 * 4; // a device holds numbers aligned to their size
    INFO(number, " ", rows, " ", cols, " ", text(place));
    MergeCase c{.base = StoredMatrix(rows, cols, random.dtype(), random.seed(), place)};
    for (std::int64_t t = random.size(12, {1, 8}); t > 0; --t) {
      const std::int64_t first = random.below(2) == 0 ? 0 : random.below(rows);
      const std::int64_t count = first == 0 && random.below(2) == 0 ? rows : 1 + random.below(rows - first);
      c.add(first, count, random.size(130, {1, 16, 32}), random.dtype(), random.factor(),
            {.shift = 4 * random.below(16), .padding = random.below(4)});
      if (random.below(3) == 0) c.terms.back().row_gain = c.gain(count);
      if (random.below(3) == 0) c.terms.back().rank_gain = c.gain(c.terms.back().a.rows);
      if (random.below(3) == 0) c.keep_scale_in_memory();
    }
    check(c);
  }
}

TEST_CASE("A term that begins in a tile's last row, or ends in its first, is seen there") {
  for (const DType type : weight_dtypes) {
    MergeCase c{.base = StoredMatrix(260, 9, type, 3)};
    c.add(127, 1, 3, DType::f32, 0.7f);
    c.add(255, 5, 3, DType::bf16, 0.7f);
    c.add(100, 29, 3, DType::f16, 0.7f);
    check(c);
  }
}

TEST_CASE("A merge without terms, and rows that no term has, keep the base's bytes") {
  for (const DType type : weight_dtypes) {
    MergeCase c{.base = StoredMatrix(300, 33, type, 5)};
    const float negative_zero = -0.0f;
    encode(type, &negative_zero, 1, c.base.bytes.data());
    CHECK(merged_by_lane(c) == rows_of(c.base.view));
    c.add(200, 100, 4, type, 1.0f);
    const std::vector<std::byte> got = merged_by_lane(c);
    const std::vector<std::byte> base = rows_of(c.base.view);
    const auto untouched = static_cast<std::ptrdiff_t>(128 * 33 * dtype_bytes(type)); // the first tile's
    CHECK(std::equal(got.begin(), got.begin() + untouched, base.begin()));
    CHECK(got != base);
  }
}

TEST_CASE("A merge on a device says what types it takes") {
  MergeCase c{.base = StoredMatrix(3, 4, DType::f32, 5)};
  c.add(0, 3, 2, DType::f32, 1.0f);
  c.terms[0].a.dtype = DType::f8_e4m3;
  CHECK_THROWS_WITH_AS(static_cast<void>(merged_by_lane(c)),
                       "a factor on a device: expected F32, F16 or BF16, got F8_E4M3", error);
  c.terms.clear();
  c.base.view.dtype = DType::i32;
  CHECK_THROWS_WITH_AS(static_cast<void>(merged_by_lane(c)),
                       "merge on a device: expected F32, F16 or BF16, got I32", error);
}

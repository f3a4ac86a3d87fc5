// SPDX-License-Identifier: Apache-2.0
// What a lane does not ask of a merge: parts of a weight, and rows with another stride than the base's.
#include <doctest/doctest.h>

#include <support/device_merges.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

using namespace tenon;
using namespace tenon::test;

TEST_CASE(
    "A merge into rows with another stride has the bits of one without padding, and leaves the padding") {
  for (const DType type : weight_dtypes)
    for (const auto [rows, cols] : {RowCols{1, 1}, {5, 131}, {129, 127}, {128, 128}})
      for (const std::int64_t rank : {1, 17, 130}) {
        INFO(dtype_name(type), " ", rows, " ", cols, " ", rank);
        MergeCase c{.base = StoredMatrix(rows, cols, type, 1, {.padding = rank % 2})};
        c.add(0, rows, rank, DType::bf16, 0.375f, {.padding = 1});
        c.add(rows / 2, rows - rows / 2, 3, type, -0.5f);
        const std::vector<std::byte> got = merged_on_device(c, 3);
        CHECK(rounded_error(type, c.exact(), got) <= c.operations());
        CHECK(merged_on_device(c) == got);
      }
}

TEST_CASE("Rows merged in parts have the bits of rows merged at once") {
  for (const DType type : weight_dtypes) {
    const std::int64_t rows = 150;
    MergeCase c{.base = StoredMatrix(rows, 70, type, 3)};
    c.add(20, 110, 9, type, 0.7f);
    c.terms.back().row_gain = c.gain(110);
    c.add(0, rows, 21, DType::bf16, -0.2f);
    const std::vector<std::byte> whole = merged_on_device(c);
    gpu::Queue queue;
    for (std::int64_t at = 1; at < rows; at += 37) {
      std::vector<std::byte> parts(whole.size());
      for (const auto [first, count] : {RowCols{at, rows - at}, {0, at}})
        gpu::merge(queue, c.base.view.block(first, 0, count, 70), c.terms,
                   {.data = parts.data() + first * 70 * dtype_bytes(type), .stride = 70, .first_row = first});
      INFO(dtype_name(type), " ", at);
      CHECK(parts == whole);
    }
  }
}

TEST_CASE("A merge says what types it takes, before anything is written") {
  MergeCase c{.base = StoredMatrix(3, 4, DType::f32, 5)};
  c.add(0, 3, 2, DType::f32, 1.0f);
  c.terms[0].a.dtype = DType::f8_e4m3;
  gpu::Queue queue;
  CHECK_THROWS_WITH_AS(gpu::merge(queue, c.base.view, c.terms, {}),
                       "a factor on a device: expected F32, F16 or BF16, got F8_E4M3", error);
  kernels::WeightMatrix base = c.base.view;
  base.dtype = DType::i32;
  CHECK_THROWS_WITH_AS(gpu::merge(queue, base, {}, {}),
                       "merge on a device: expected F32, F16 or BF16, got I32", error);
}

TEST_CASE("Factors of one 16-bit type without gains fit a unit for products of matrices") {
  MergeCase c{.base = StoredMatrix(3, 4, DType::bf16, 5)};
  CHECK_FALSE(gpu::fits_mma(DType::bf16, c.terms));
  c.add(0, 3, 2, DType::bf16, 1.0f);
  c.add(1, 2, 3, DType::bf16, 1.0f);
  CHECK(gpu::fits_mma(DType::bf16, c.terms));
  CHECK(gpu::fits_mma(DType::f16, c.terms));
  CHECK_FALSE(gpu::fits_mma(DType::f32, c.terms));
  c.terms[1].rank_gain = c.gain(3);
  CHECK_FALSE(gpu::fits_mma(DType::bf16, c.terms));
  c.terms.pop_back();
  c.add(0, 3, 2, DType::f16, 1.0f);
  CHECK_FALSE(gpu::fits_mma(DType::bf16, c.terms));
}

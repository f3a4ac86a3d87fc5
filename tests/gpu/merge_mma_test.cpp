// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/gpu/merge_mma.hpp>

#include <support/device_merges.hpp>
#include <support/emulated_squares.hpp>
#include <support/random_cases.hpp>

#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

template <class Storage, class Factor, bool Several>
using Block = gpu::MergeByMma<Storage, EmulatedSquares<Factor>, Several>;

/// What `merge` does where there is a unit.
template <class Storage, class Factor>
std::vector<std::byte> merged_by_squares(const MergeCase& c, std::int64_t padding) {
  gpu::Queue queue;
  std::vector<std::byte> room(static_cast<std::size_t>(gpu::merge_room_bytes(std::ssize(c.terms))));
  return merged_with(c, padding, [&](const gpu::MergeOutput& out) {
    const kernels::WeightMatrix& base = c.base.view;
    const gpu::MergeSegment segment{.base = base.data,
                                    .out = out.data,
                                    .rows = base.rows,
                                    .cols = base.cols,
                                    .base_stride = base.stride,
                                    .out_stride = out.stride,
                                    .first_row = 0,
                                    .is_wide = gpu::is_wide(base.data, base.dtype, base.stride) &&
                                               gpu::is_wide(out.data, base.dtype, out.stride),
                                    .terms = gpu::merge_terms(queue, c.terms, room)};
    if (c.terms.size() == 1)
      gpu::run_merge<Block<Storage, Factor, false>>(queue, segment);
    else
      gpu::run_merge<Block<Storage, Factor, true>>(queue, segment);
  });
}

void check(const MergeCase& c, std::int64_t padding) {
  REQUIRE(gpu::fits_mma(c.base.view.dtype, c.terms));
  std::vector<std::byte> got;
  gpu::with_storage(c.base.view.dtype, [&]<class Storage>(Storage) {
    gpu::with_storage(c.terms[0].a.dtype, [&]<class Factor>(Factor) {
      if constexpr (Storage::dtype != DType::f32 && Factor::dtype != DType::f32)
        got = merged_by_squares<Storage, Factor>(c, padding);
    });
  });
  CHECK(rounded_error(c.base.view.dtype, c.exact(), got) <= c.operations());
}

constexpr DType short_dtypes[] = {DType::f16, DType::bf16};

/// Every element of a tile is some thread's, and one's only.
template <class Tested>
void check_cover() {
  std::set<std::pair<int, int>> seen;
  for (int thread = 0; thread < Tested::threads; ++thread)
    for (int i = 0; i < Tested::down; ++i)
      for (int p = 0; p < Tested::packs; ++p)
        for (int k = 0; k < Tested::wide; ++k) {
          const int warp = thread / gpu::warp_size;
          const int row = Tested::row_of_warp(warp) + i * Tested::square + Tested::row_of_pack(thread, p);
          const int col = Tested::col_of_warp(warp) + Tested::col_of_pack(thread) + k;
          if (row < gpu::merge_tile_rows && col < Tested::tile_cols) seen.emplace(row, col);
        }
  CHECK(std::ssize(seen) == gpu::merge_tile_rows * Tested::tile_cols);
  CHECK(Tested::threads * Tested::down * Tested::packs * Tested::wide == std::ssize(seen));
}

} // namespace

TEST_CASE("A tile's elements are each some thread's") {
  check_cover<Block<gpu::StoredBf16, gpu::StoredBf16, false>>();
  check_cover<Block<gpu::StoredBf16, gpu::StoredBf16, true>>();
}

TEST_CASE("A merge by squares agrees with float64 for both types and ranks and odd shapes") {
  for (const DType base : short_dtypes)
    for (const DType factor : short_dtypes)
      for (const std::int64_t rank : {1, 16, 17, 40})
        for (const auto [rows, cols] : {RowCols{1, 1}, {5, 131}, {129, 136}}) {
          INFO(dtype_name(base), " ", dtype_name(factor), " ", rank, " ", rows, " ", cols);
          MergeCase c{.base = StoredMatrix(rows, cols, base, 1)};
          c.add(0, rows, rank, factor, 0.375f);
          check(c, 0);
        }
}

TEST_CASE("A term that begins in a tile's last row, or ends in its first, is seen there") {
  for (const DType type : short_dtypes) {
    MergeCase c{.base = StoredMatrix(260, 9, type, 3)};
    c.add(127, 1, 3, DType::bf16, 0.7f);
    c.add(255, 5, 3, DType::bf16, 0.7f);
    c.add(100, 29, 3, DType::bf16, 0.7f);
    check(c, 0);
  }
}

TEST_CASE("A merge of random terms by squares agrees with float64") {
  for (std::uint64_t number = 0; number < 40; ++number) {
    RandomCase random(number);
    const std::int64_t rows = random.size(300, {1, 16, 32, 128, 256});
    const std::int64_t cols = random.size(300, {1, 8, 64, 128, 256});
    const DType factor = short_dtypes[random.below(2)];
    const bool is_wide = random.below(2) == 0;
    const auto place = [&]() -> Place {
      return is_wide ? Place{} : Place{.shift = 2 * random.below(16), .padding = random.below(4)};
    };
    INFO(number, " ", rows, " ", cols);
    MergeCase c{.base = StoredMatrix(rows, cols, short_dtypes[random.below(2)], random.seed(), place())};
    for (std::int64_t t = random.size(12, {1, 8}); t > 0; --t) {
      const std::int64_t first = random.below(2) == 0 ? 0 : random.below(rows);
      c.add(first, 1 + random.below(rows - first), random.size(70, {1, 16, 32}), factor, random.factor(),
            place());
      if (random.below(3) == 0) c.keep_scale_in_memory();
    }
    check(c, is_wide ? 0 : 3);
  }
}

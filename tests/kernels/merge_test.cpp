// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/merge.hpp>

#include <support/allocation_probe.hpp>
#include <support/instruction_sets.hpp>
#include <support/merge_checks.hpp>
#include <support/naive.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <span>
#include <utility>
#include <vector>

// The 16-lane text compiled for what this program is compiled for, as in vector_kernels_test.cpp
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi" // vectors wider than the registers, inside this file only
#elif defined(__clang__)
#pragma clang diagnostic ignored "-Wpsabi"
#endif
namespace tenon::kernels::wide {
#define TENON_LANES 16
#define TENON_ROWS 8
#define TENON_TARGET
#define TENON_HAS_F16C 0
#include <tenon/kernels/vector_kernels.inc>
#define TENON_TARGET
#define TENON_PACKS_EIGHT 0
#include <tenon/kernels/merge_kernels.inc>
} // namespace tenon::kernels::wide

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

constexpr VectorKernels wide_kernels = {
    InstructionSet::avx512, wide::width,  wide::group,  wide::multiply_panel, wide::add_transposed,
    wide::dot_rows,         wide::decode, wide::encode, wide::split_tile,     wide::round_pairs};

} // namespace

TEST_CASE("A merge agrees with float64 and rounds once for all sizes and dtypes and ranks") {
  for (const DType type : weight_dtypes)
    for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{13}, merge_rows, merge_rows + 1})
      for (const std::int64_t cols : {std::int64_t{1}, std::int64_t{31}, std::int64_t{64}, std::int64_t{65}})
        for (const std::int64_t rank : {std::int64_t{1}, std::int64_t{7}, std::int64_t{129}}) {
          const StoredMatrix base(rows, cols, type, 1, {.padding = 3});
          const Factors f(rows, cols, rank, type, 0.375f, 2, {.padding = 1});
          INFO(dtype_name(type), " ", rows, " ", cols, " ", rank);
          CHECK(merge_error(base, {&f, 1}, merged(base, {&f.term, 1})) <= static_cast<double>(rank + 4));
        }
}

TEST_CASE(
    "Merges of random shapes and places agree with float64 in every instruction set, and with each other") {
  Numbers numbers(7);
  const auto any = [&](std::int64_t most) { // 0 to most
    return static_cast<std::int64_t>((static_cast<double>(numbers.next()) + 1.0) * 0.5 *
                                     static_cast<double>(most + 1));
  };
  for (int i = 0; i < 40; ++i) {
    const std::int64_t rows = 1 + any(i % 4 == 0 ? 60 : 26);
    const std::int64_t cols = 1 + any(i % 4 == 1 ? 300 : 70);
    const std::int64_t rank = i % 20 == 19 ? merge_rank + any(40) : 1 + any(i % 3 == 0 ? 511 : 48);
    const DType type = weight_dtypes[any(2)];
    const StoredMatrix base(rows, cols, type, static_cast<std::uint64_t>(i), {any(9), any(5)});
    const Factors f(rows, cols, rank, weight_dtypes[any(2)], 0.25f, 100, {any(9), any(3)});
    const auto shift = static_cast<std::size_t>(any(9));
    INFO(dtype_name(type), " ", rows, " ", cols, " ", rank);
    std::vector<std::byte> first;
    for_each_instruction_set([&](const VectorKernels& kernels) {
      INFO(instruction_set_name(kernels.set));
      const std::vector<std::byte> got = merged(base, {&f.term, 1}, shift, kernels);
      CHECK(merge_error(base, {&f, 1}, got) <= static_cast<double>(rank + 4));
      if (first.empty()) first = got;
      CHECK(agree_within_one_rounding(type, first, got, static_cast<double>(rank)));
    });
  }
}

TEST_CASE("Rows merged in two parts have the bits of rows merged at once, wherever they are parted") {
  for_each_instruction_set([](const VectorKernels& kernels) {
    for (const DType type : weight_dtypes)
      for (const std::int64_t rank : {std::int64_t{5}, merge_rank + 3}) {
        const std::int64_t rows = 61;
        const std::int64_t cols = 83;
        const StoredMatrix base(rows, cols, type, 1, {.shift = 2, .padding = 1});
        const Factors f(rows, cols, rank, DType::bf16, 0.6f, 2);
        const std::vector<std::byte> whole = merged(base, {&f.term, 1}, 0, kernels);
        const ExactScratch room(merge_scratch_bytes);
        for (std::int64_t at = 1; at < rows; at += rank < 9 ? 1 : 29) {
          INFO(instruction_set_name(kernels.set), " ", dtype_name(type), " ", rank, " ", at);
          check_two_parts(whole, rows, at, [&](std::int64_t first, std::int64_t count, std::byte* out) {
            merge_low_rank(base.view.block(first, 0, count, cols), {&f.term, 1}, out, room.scratch(), kernels,
                           {.first_row = first});
          });
        }
      }
  });
}

TEST_CASE("The 16-lane merge agrees with float64 for every remainder and touches nothing beyond") {
  for (const DType type : weight_dtypes)
    for (const std::int64_t rows : {1, 7, 8, 9, 24})
      for (const std::int64_t cols : {1, 31, 32, 33, 64, 95}) {
        const std::int64_t depth = 19;
        const StoredMatrix base(rows, cols, type, 1, {.shift = 3, .padding = 2});
        const Factors f(rows, cols, depth, DType::f32, 1.0f, 5);
        const ConstMatrix b{reinterpret_cast<const float*>(f.b.view.data), rows, depth, depth};
        std::vector<float> panels(static_cast<std::size_t>(panel_floats(depth, cols, wide::width)));
        make_panels_of_a(wide_kernels, {&f.term, 1}, 0, depth, 0, cols, type == DType::bf16, panels.data());
        const std::int64_t row = cols * dtype_bytes(type);
        std::vector<std::byte> out(static_cast<std::size_t>(rows * row + 1), std::byte{0x5A});
        wide::merge_rows(base.view, b, panels.data(), {out.data(), row});
        INFO(dtype_name(type), " ", rows, " ", cols);
        CHECK(out.back() == std::byte{0x5A});
        out.pop_back();
        CHECK(merge_error(base, {&f, 1}, out) <= static_cast<double>(depth + 4));
      }
}

TEST_CASE("A merge agrees with float64 in every instruction set this processor has") {
  for_each_instruction_set([](const VectorKernels& kernels) {
    for (const DType type : weight_dtypes) {
      const StoredMatrix base(29, 150, type, 1, {.padding = 3});
      const Factors f(29, 150, 40, DType::bf16, 0.375f, 2, {.padding = 1});
      INFO(instruction_set_name(kernels.set), " ", dtype_name(type));
      CHECK(merge_error(base, {&f, 1}, merged(base, {&f.term, 1}, 0, kernels)) <= 44.0);
    }
  });
}

TEST_CASE(
    "More columns than the panels of a rank hold, and a rank too long for one pass, round once as well") {
  for (const auto& [cols, ranks] : {std::pair<std::int64_t, int>{600, 1000}, {70, 2100}}) {
    std::vector<Factors> factors; // of rank 500 each, but for the last
    for (int rank = 0; rank < ranks; rank += 500)
      factors.emplace_back(26, cols, std::min(500, ranks - rank), DType::f16, 0.01f, 10 + rank);
    std::vector<LowRankTerm> terms;
    for (const Factors& f : factors) terms.push_back(f.term);
    const StoredMatrix base(26, cols, DType::bf16, 1);
    CHECK(merge_error(base, factors, merged(base, terms)) <= ranks + 8);
  }
}

TEST_CASE("Several adapters of other dtypes are merged with one rounding") {
  std::vector<Factors> factors;
  factors.emplace_back(40, 300, 8, DType::f32, 1e-3f, 10);
  factors.emplace_back(40, 300, 3, DType::f16, -2.0f, 20);
  factors.emplace_back(40, 300, 20, DType::bf16, 0.5f, 30);
  std::vector<LowRankTerm> terms;
  for (const Factors& f : factors) terms.push_back(f.term);
  for (const DType type : weight_dtypes) {
    const StoredMatrix base(40, 300, type, 1);
    CHECK(merge_error(base, factors, merged(base, terms)) <= 8 + 3 + 20 + 8);
  }
}

TEST_CASE("A merge of nothing loses nothing and moves nothing") {
  const StoredMatrix base(11, 13, DType::f16, 1);
  std::vector<std::byte> out(11 * 13 * 2);
  MergeLoss loss{.weights = 1};
  merge_low_rank(base.view, {}, out.data(), Scratch(), vector_kernels(), {.loss = &loss});
  CHECK(loss.weights == 144);
  CHECK(loss.unmoved == 143);
  CHECK(loss.relative_error() == 0.0);
}

TEST_CASE("A merge of nothing is a copy of the bytes") {
  for (const DType type : weight_dtypes) {
    StoredMatrix base(11, 13, type, 1, {.shift = 2, .padding = 5});
    std::memset(base.bytes.data(), 0xFF, 8); // NaNs keep their payload
    const auto out = merged(base, {});
    const auto row = static_cast<std::size_t>(13 * dtype_bytes(type));
    for (std::int64_t i = 0; i < 11; ++i)
      CHECK(std::memcmp(out.data() + static_cast<std::size_t>(i) * row, base.view.at(i, 0), row) == 0);
  }
}

TEST_CASE("A merge leaves base and adapters as they are") {
  const StoredMatrix base(150, 70, DType::bf16, 1);
  const StoredMatrix before(150, 70, DType::bf16, 1);
  const Factors f(150, 70, 16, DType::bf16, 1.0f, 2);
  const Factors same(150, 70, 16, DType::bf16, 1.0f, 2);
  static_cast<void>(merged(base, {&f.term, 1}));
  CHECK(std::memcmp(base.view.data, before.view.data, 150 * 70 * 2) == 0);
  CHECK(std::memcmp(f.a.view.data, same.a.view.data, 16 * 70 * 2) == 0);
  CHECK(std::memcmp(f.b.view.data, same.b.view.data, 150 * 16 * 2) == 0);
}

TEST_CASE("The bits of a merge do not depend on addresses or on what the scratch held") {
  for (const DType type : weight_dtypes) {
    const Factors f(130, 270, 9, type, 0.7f, 2);
    const Factors moved(130, 270, 9, type, 0.7f, 2, {.shift = 5, .padding = 2});
    const auto plain = merged(StoredMatrix(130, 270, type, 1), {&f.term, 1});
    CHECK(merged(StoredMatrix(130, 270, type, 1, {.shift = 4, .padding = 1}), {&moved.term, 1}, 3) == plain);

    std::vector<std::byte> zeros(static_cast<std::size_t>(merge_scratch_bytes) + 63);
    std::vector<std::byte> out(plain.size());
    merge_low_rank(StoredMatrix(130, 270, type, 1).view, {&f.term, 1}, out.data(), Scratch(zeros));
    CHECK(out == plain);
  }
}

TEST_CASE("What goes past the caches has the bits of what does not") {
  for_each_instruction_set([](const VectorKernels& kernels) {
    for (const DType type : weight_dtypes) {
      const std::int64_t rows = 531;
      const std::int64_t cols = 512; // whole lines: the last rows are too few for a group of them
      const std::int64_t row = cols * dtype_bytes(type);
      CHECK(rows * row >= streamed_merge_bytes);
      const StoredMatrix base(rows, cols, type, 1, {.shift = 2, .padding = 1});
      const Factors f(rows, cols, 6, DType::bf16, 0.6f, 2);
      std::vector<std::byte> room(static_cast<std::size_t>(rows * row) + 64);
      std::byte* const out = room.data() + (64 - reinterpret_cast<std::uintptr_t>(room.data()) % 64);
      const ExactScratch scratch(merge_scratch_bytes);
      CHECK(is_streamed(type, out, row, rows) == (type == DType::f32));
      merge_low_rank(base.view, {&f.term, 1}, out, scratch.scratch(), kernels);
      INFO(instruction_set_name(kernels.set), " ", dtype_name(type));
      CHECK(std::memcmp(out, merged(base, {&f.term, 1}, 1, kernels).data(),
                        static_cast<std::size_t>(rows * row)) == 0);
    }
  });
}

TEST_CASE("A merge allocates nothing and its scratch is one constant") {
  static_assert(merge_scratch_bytes == 710 * 1024);
  const StoredMatrix base(200, 300, DType::f16, 1);
  const Factors f(200, 300, 300, DType::bf16, 1.0f, 2);
  std::vector<std::byte> out(200 * 300 * 2);
  const ExactScratch room(merge_scratch_bytes);
  const AllocationProbe probe;
  merge_low_rank(base.view, {&f.term, 1}, out.data(), room.scratch());
  const auto taken = probe.count();
  CHECK(taken == 0);
}

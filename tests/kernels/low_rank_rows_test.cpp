// SPDX-License-Identifier: Apache-2.0
// Terms with gains, terms for some rows of a weight, and terms with factors of 8 bits.
#include <doctest/doctest.h>

#include <tenon/kernels/low_rank.hpp>
#include <tenon/kernels/merge.hpp>

#include <support/emulated_tiles.hpp>
#include <support/instruction_sets.hpp>
#include <support/merge_checks.hpp>
#include <support/naive.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

/// A term with gains for rows [first_row, first_row + rows) of a weight of `out` rows, and the same as a
/// dense B in float: zeros in the other rows, the gains multiplied in. The gains are powers of two, so that B
/// is exact.
struct Part {
  Part(std::int64_t out, std::int64_t in, std::int64_t rank, std::int64_t first_row, std::int64_t rows,
       DType type, bool has_row_gain, bool has_rank_gain, float scale = 0.5f)
      : a(rank, in, type, 11), b(rows, rank, type, 12, {.shift = 2, .padding = 1}), dense(out, rank, 0),
        dense_a(rank, in, 0) {
    const auto gain = [](std::int64_t i) { return i % 3 == 0 ? 2.0f : i % 3 == 1 ? -0.5f : 1.0f; };
    for (std::int64_t i = 0; i < rows; ++i) row_gain.push_back(gain(i));
    for (std::int64_t r = 0; r < rank; ++r) rank_gain.push_back(gain(r + 1));
    term = {.a = a.view, .b = b.view, .scale = scale, .first_row = first_row};
    if (has_row_gain) term.row_gain = row_gain.data();
    if (has_rank_gain) term.rank_gain = rank_gain.data();
    for (std::int64_t i = 0; i < out; ++i)
      for (std::int64_t r = 0; r < rank; ++r) {
        const bool has = i >= first_row && i < first_row + rows;
        double value = has ? b(i - first_row, r) : 0.0;
        if (has && has_row_gain) value *= static_cast<double>(gain(i - first_row));
        if (has_rank_gain) value *= static_cast<double>(gain(r + 1));
        dense.view.row(i)[r] = static_cast<float>(value);
      }
    for (std::int64_t r = 0; r < rank; ++r)
      for (std::int64_t j = 0; j < in; ++j) dense_a.view.row(r)[j] = static_cast<float>(a(r, j));
    plain = {.a = as_weight(dense_a.view), .b = as_weight(dense.view), .scale = scale};
  }
  StoredMatrix a;
  StoredMatrix b;
  FloatMatrix dense;
  FloatMatrix dense_a;
  std::vector<float> row_gain{};
  std::vector<float> rank_gain{};
  LowRankTerm term{};
  LowRankTerm plain{};
};

struct Window {
  std::int64_t first;
  std::int64_t rows;
};

} // namespace

TEST_CASE(
    "Rows of a weight that a term has no B for are not touched, and gains are as if multiplied into B") {
  constexpr std::int64_t out = 131;
  constexpr std::int64_t in = 70;
  for_each_instruction_set([&](const VectorKernels& kernels) {
    for (const Window window : {Window{0, out}, {0, 40}, {37, 50}, {130, 1}, {64, 67}})
      for (const std::int64_t rank : {std::int64_t{1}, std::int64_t{19}, low_rank_depth + 9})
        for (const int gains : {0, 1, 2, 3}) {
          const Part part(out, in, rank, window.first, window.rows, DType::bf16, (gains & 1) != 0,
                          (gains & 2) != 0);
          CAPTURE(instruction_set_name(kernels.set));
          CAPTURE(window.first);
          CAPTURE(rank);
          CAPTURE(gains);
          for (const std::int64_t rows : {1, 8, 9, 40}) {
            CAPTURE(rows);
            const FloatMatrix x(rows, in, 3);
            FloatMatrix y(rows, out, 4);
            FloatMatrix wanted(rows, out, 4);
            const ExactScratch room(low_rank_scratch_bytes(rows, out, in));
            low_rank_add(x.view, {&part.term, 1}, y.view, room.scratch(), kernels);
            low_rank_add(x.view, {&part.plain, 1}, wanted.view, room.scratch(), kernels);
            CHECK(same_bits(y.view, wanted.view));
          }
        }
  });
}

TEST_CASE("A merge takes such terms as their dense B, whatever the rank and however its rows are cut") {
  constexpr std::int64_t out = 75;
  constexpr std::int64_t in = 67;
  for_each_instruction_set([&](const VectorKernels& kernels) {
    for (const DType type : weight_dtypes)
      for (const std::int64_t rank : {std::int64_t{5}, merge_rank + 3})
        for (const int gains : {0, 3}) {
          const StoredMatrix base(out, in, type, 1);
          // of half precision, so that no path is that of a matrix unit, whose sums are made otherwise
          const Part part(out, in, rank, 21, 33, DType::f16, gains != 0, gains != 0);
          CAPTURE(instruction_set_name(kernels.set));
          CAPTURE(rank);
          const std::vector<std::byte> got = merged(base, {&part.term, 1}, 0, kernels);
          CHECK(got == merged(base, {&part.plain, 1}, 0, kernels));
          const ExactScratch room(merge_scratch_bytes);
          std::vector<std::byte> parts(got.size());
          const std::int64_t cuts[] = {0, 20, 21, 40, 54, out};
          for (std::size_t i = 0; i + 1 < std::size(cuts); ++i)
            merge_low_rank(base.view.block(cuts[i], 0, cuts[i + 1] - cuts[i], in), {&part.term, 1},
                           parts.data() + cuts[i] * in * dtype_bytes(type), room.scratch(), kernels,
                           {.first_row = cuts[i]});
          CHECK(parts == got);
        }
  });
}

TEST_CASE("A matrix unit takes terms for some rows, as a dense B of the same type, and none with gains") {
  constexpr std::int64_t out = 90;
  constexpr std::int64_t in = 50;
  constexpr std::int64_t rank = 40;
  const StoredMatrix base(out, in, DType::bf16, 1);
  const StoredMatrix a(rank, in, DType::bf16, 2);
  const StoredMatrix b(41, rank, DType::bf16, 3);
  StoredMatrix dense(out, rank, DType::bf16, 4);
  std::memset(dense.bytes.data(), 0, static_cast<std::size_t>(out * rank * 2));
  std::memcpy(dense.bytes.data() + 17 * rank * 2, b.view.data, static_cast<std::size_t>(41 * rank * 2));
  LowRankTerm term{.a = a.view, .b = b.view, .scale = 0.3f, .first_row = 17};
  const LowRankTerm plain{.a = a.view, .b = dense.view, .scale = 0.3f};
  CHECK(fits_tiles(base.view, {&term, 1}));
  const MergeKernels& kernels = merge_kernels(InstructionSet::portable);
  const ExactScratch room(merge_scratch_bytes);
  std::vector<std::byte> got(out * in * 2);
  std::vector<std::byte> wanted(out * in * 2);
  merge_on_tiles<EmulatedTiles>(kernels, base.view, {&plain, 1}, wanted.data(), in * 2, room.scratch(), {});
  merge_on_tiles<EmulatedTiles>(kernels, base.view, {&term, 1}, got.data(), in * 2, room.scratch(), {});
  CHECK(got == wanted);
  std::fill(got.begin(), got.end(), std::byte{0});
  for (const std::int64_t first : {0, 19}) // a part that begins inside B
    merge_on_tiles<EmulatedTiles>(kernels, base.view.block(first, 0, first == 0 ? 19 : out - 19, in),
                                  {&term, 1}, got.data() + first * in * 2, in * 2, room.scratch(),
                                  {.first_row = first});
  CHECK(got == wanted);

  const std::vector<float> gains(41, 1.0f);
  term.row_gain = gains.data();
  CHECK_FALSE(fits_tiles(base.view, {&term, 1}));
  term.row_gain = nullptr;
  term.rank_gain = gains.data();
  CHECK_FALSE(fits_tiles(base.view, {&term, 1}));
}

TEST_CASE("Factors of 8 bits give what their values in float give") {
  constexpr std::int64_t out = 45;
  constexpr std::int64_t in = 300;
  constexpr std::int64_t rank = 21;
  for (const DType type : {DType::f8_e4m3, DType::f8_e5m2}) {
    Numbers numbers(5);
    const auto bytes =
        [&](std::int64_t n) { // numbers of either sign up to 16 (e4m3) or 2 (e5m2), subnormals too
          std::vector<std::byte> list(static_cast<std::size_t>(n));
          for (std::byte& each : list) {
            const auto size = static_cast<unsigned>((numbers.next() + 1.0f) * 31.9f);
            each = static_cast<std::byte>(size | (numbers.next() < 0 ? 0x80U : 0U));
          }
          return list;
        };
    const std::vector<std::byte> a = bytes(rank * in);
    const std::vector<std::byte> b = bytes(out * rank);
    FloatMatrix wide_a(rank, in, 0);
    FloatMatrix wide_b(out, rank, 0);
    decode_fp8(type, a.data(), rank * in, wide_a.view.data);
    decode_fp8(type, b.data(), out * rank, wide_b.view.data);
    const LowRankTerm term{{a.data(), type, rank, in, in}, {b.data(), type, out, rank, rank}, 0.25f};
    const LowRankTerm wide{as_weight(wide_a.view), as_weight(wide_b.view), 0.25f};
    for_each_instruction_set([&](const VectorKernels& kernels) {
      CAPTURE(instruction_set_name(kernels.set));
      for (const std::int64_t rows : {1, 9, 40}) {
        const FloatMatrix x(rows, in, 3);
        FloatMatrix y(rows, out, 4);
        FloatMatrix wanted(rows, out, 4);
        const ExactScratch room(low_rank_scratch_bytes(rows, out, in));
        low_rank_add(x.view, {&term, 1}, y.view, room.scratch(), kernels);
        low_rank_add(x.view, {&wide, 1}, wanted.view, room.scratch(), kernels);
        if (rows > gemm_few_rows) {
          CHECK(same_bits(y.view, wanted.view));
          continue;
        }
        Twin twin(rows, out); // streamed 256 columns at a time: the sums have another order
        twin.add_all(FloatMatrix(rows, out, 4));
        Twin shrunk(rows, rank);
        shrunk.add_product(1, in, x, [&](auto k, auto r) { return wide_a(r, k); });
        const auto turned = [&](auto r, auto j) { return wide_b(j, r); };
        twin.add_product(
            0.25, rank, shrunk, turned, [&](auto i, auto r) { return shrunk.size(i, r); },
            [&](auto r, auto j) { return std::abs(turned(r, j)); });
        CHECK(error_in_units(y.view, twin) <= in + rank + 8);
      }
      for (const DType base_type : weight_dtypes) {
        const StoredMatrix base(out, in, base_type, 1);
        CHECK(merged(base, {&term, 1}, 0, kernels) == merged(base, {&wide, 1}, 0, kernels));
      }
    });
  }
}

TEST_CASE(
    "All 256 values of both 8-bit types are decoded by every instruction set as by the scalar functions") {
  std::vector<std::byte> bits(256);
  for (std::size_t i = 0; i < 256; ++i) bits[i] = static_cast<std::byte>(i);
  for_each_instruction_set([&](const VectorKernels& kernels) {
    for (const DType type : {DType::f8_e4m3, DType::f8_e5m2}) {
      std::vector<float> got(256);
      std::vector<float> wanted(256);
      kernels.decode(type, bits.data(), 256, got.data());
      decode(type, bits.data(), 256, wanted.data());
      CHECK(std::memcmp(got.data(), wanted.data(), 256 * sizeof(float)) == 0);
    }
  });
}

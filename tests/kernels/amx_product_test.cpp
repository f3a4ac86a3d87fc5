// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/amx_product.hpp>
#include <tenon/kernels/instruction_set.hpp>

#include <support/emulated_tiles.hpp>
#include <support/instruction_sets.hpp>
#include <support/naive.hpp>
#include <support/team.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

struct Product {
  std::int64_t m, n, k;
};

/// The error of a product on `Unit`, in units of 2^-24 of the magnitudes.
template <TileUnit Unit>
double product_error(const VectorKernels& kernels, const Product& s, float alpha) {
  const FloatMatrix a(s.m, s.k, 1, {.padding = 2});
  const StoredMatrix b(s.n, s.k, DType::bf16, 2, {.shift = 1, .padding = 3});
  FloatMatrix c(s.m, s.n, 3, {.padding = 1});
  Twin twin(s.m, s.n);
  twin.add_all(c);
  twin.add_product(static_cast<double>(alpha), s.k, a, [&](auto k, auto j) { return b(j, k); });
  const ExactScratch room(amx_product_scratch_bytes(s.m, s.k));
  multiply_on_tiles<Unit>(kernels, a.view, b.view, alpha, c.view, room.scratch());
  CHECK(room.guard_untouched());
  CHECK(c.padding_untouched());
  return error_in_units(c.view, twin);
}

constexpr Product products[] = {{1, 1, 1},    {9, 33, 32},  {16, 16, 33},  {17, 31, 64},
                                {31, 5, 511}, {32, 32, 31}, {130, 40, 70}, {33, 34, 769}};

/// On an emulated unit, c being zero before.
FloatMatrix emulated(ConstMatrix a, WeightMatrix b, float alpha, Workers workers) {
  FloatMatrix c(a.rows, b.rows, 1);
  for (std::int64_t i = 0; i < a.rows; ++i) std::fill_n(c.view.row(i), b.rows, 0.0f);
  multiply_on_tiles<EmulatedTiles>(vector_kernels(InstructionSet::portable), a, b, alpha, c.view, workers);
  return c;
}

} // namespace

TEST_CASE("A product on tiles has the accuracy of one of floats for every edge of a tile") {
  for (const Product& s : products)
    for (const float alpha : {1.0f, 0.75f}) {
      INFO(s.m, " ", s.n, " ", s.k, " ", alpha);
      CHECK(product_error<EmulatedTiles>(vector_kernels(InstructionSet::portable), s, alpha) <=
            static_cast<double>(s.k + 4));
    }
}

TEST_CASE("The scratch of a product on tiles grows with its shape and has an upper bound") {
  static_assert(amx_product_scratch_bytes(1 << 20, 1 << 20) == 582 * 1024);
  std::int64_t before = 0;
  for (std::int64_t size = 1; size < 1000; size += 7) {
    const std::int64_t bytes = amx_product_scratch_bytes(size, size);
    CHECK(bytes >= before);
    before = bytes;
  }
}

TEST_CASE("Floats are packed for tiles with every set of instructions as element by element") {
  for (const Product& s : {Product{1, 0, 1}, Product{16, 0, 32}, Product{19, 0, 70}, Product{64, 0, 33}})
    for (const std::int64_t parts : {amx_parts, std::int64_t{1}}) {
      const FloatMatrix a(s.m, s.k, 1, {.padding = 1});
      const std::int64_t steps = (s.k + amx_depth - 1) / amx_depth;
      std::vector<std::uint16_t> expected(static_cast<std::size_t>(part_elements(s.m, s.k, parts)));
      for (std::int64_t r = 0; r < s.m; ++r)
        for (std::int64_t k = 0; k < s.k; ++k) {
          float rest = a.view.row(r)[k];
          std::int64_t at = (r / amx_rows * steps + k / amx_depth) * parts * amx_elements +
                            k % amx_depth / 2 * amx_depth + r % amx_rows * 2 + k % 2;
          for (std::int64_t part = 0; part < parts; ++part, at += amx_elements) {
            const auto cut = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(rest) >> 16);
            const std::uint16_t bits = parts == 1 ? bf16_from_f32(rest) : cut;
            expected[static_cast<std::size_t>(at)] = bits;
            rest -= f32_from_bf16(bits);
          }
        }
      for_each_instruction_set([&](const VectorKernels& kernels) {
        INFO(instruction_set_name(kernels.set), " ", s.m, " ", s.k, " ", parts);
        std::vector<std::uint16_t> packed(expected.size() + 1, 0x5A5A);
        pack_parts(kernels, a.view, parts, packed.data());
        CHECK(packed.back() == 0x5A5A);
        packed.pop_back();
        CHECK(packed == expected);
      });
    }
}

TEST_CASE("A product on tiles has the same bits with any number of threads") {
  const FloatMatrix a(150, 800, 1);
  const StoredMatrix b(100, 800, DType::bf16, 2);
  Team one(1);
  const FloatMatrix alone = emulated(a.view, b.view, 0.5f, one.workers);
  for (const int threads : {2, 3}) {
    Team team(threads);
    CHECK(same_bits(emulated(a.view, b.view, 0.5f, team.workers).view, alone.view));
  }
}

TEST_CASE("A row of a product on tiles does not depend on the rows beside it, nor a column on the others") {
  FloatMatrix a(40, 90, 1);
  const StoredMatrix b(50, 90, DType::bf16, 2);
  a.view.row(3)[7] = std::numeric_limits<float>::infinity();
  a.view.row(4)[8] = std::numeric_limits<float>::quiet_NaN();
  const ExactScratch room(amx_product_scratch_bytes(40, 90));
  const FloatMatrix all = emulated(a.view, b.view, 2.0f, room.scratch());
  const FloatMatrix part =
      emulated(a.view.rows_from(5, 21), b.view.block(17, 0, 20, 90), 2.0f, room.scratch());
  CHECK(same_bits(all.view.rows_from(5, 21).cols_from(17, 20), part.view));
  for (std::int64_t j = 0; j < 50; ++j) {
    CHECK(all.view.row(3)[j] - all.view.row(3)[j] != 0.0f); // infinite
    CHECK(all.view.row(4)[j] != all.view.row(4)[j]);
  }
}

#if defined(__x86_64__)
TEST_CASE("A product on the processor's tiles has that accuracy as well") {
  if (best_instruction_set(cpu_features()) < InstructionSet::amx) {
    MESSAGE("not tested: no AMX here");
    return;
  }
  for (const Product& s : products) {
    INFO(s.m, " ", s.n, " ", s.k);
    CHECK(product_error<ProcessorTiles>(vector_kernels(InstructionSet::amx), s, 0.75f) <=
          static_cast<double>(s.k + 4));
    const FloatMatrix a(s.m, s.k, 1);
    const StoredMatrix b(s.n, s.k, DType::bf16, 2);
    FloatMatrix c(s.m, s.n, 3);
    for (std::int64_t i = 0; i < s.m; ++i) std::fill_n(c.view.row(i), s.n, 0.0f);
    const ExactScratch room(amx_product_scratch_bytes(s.m, s.k));
    multiply_on_tiles<ProcessorTiles>(vector_kernels(InstructionSet::amx), a.view, b.view, 0.75f, c.view,
                                      room.scratch());
    WARN(same_bits(c.view,
                   emulated(a.view, b.view, 0.75f, room.scratch()).view)); // as the manual has its arithmetic
  }
}
#endif

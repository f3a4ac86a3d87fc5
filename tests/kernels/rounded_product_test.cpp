// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/rounded_product.hpp>
#include <tenon/weights/half.hpp>

#include <support/emulated_pairs.hpp>
#include <support/emulated_tiles.hpp>
#include <support/naive.hpp>
#include <support/team.hpp>

#include <algorithm>
#include <cmath>
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
constexpr Product products[] = {{1, 1, 1},    {9, 33, 32},    {16, 16, 33},  {17, 47, 64},  {31, 5, 511},
                                {32, 48, 31}, {33, 49, 2305}, {129, 50, 70}, {150, 97, 101}};

/// `f(kernels)` for plain loops and, where it has them, the processor's pairs.
template <class F>
void for_each_unit(F f) {
  f(kernels_with_emulated_pairs());
  if (best_instruction_set(cpu_features()) >= InstructionSet::avx512_bf16)
    f(vector_kernels(InstructionSet::avx512_bf16));
  else
    MESSAGE("no AVX512_BF16 here");
}

double rounded(double value) {
  return static_cast<double>(f32_from_bf16(bf16_from_f32(static_cast<float>(value))));
}

/// In units of 2^-24 of the magnitudes; `multiply(a, b, c, scratch)` computes c += alpha a b^T.
template <class F>
double product_error(const Product& s, float alpha, F multiply) {
  const FloatMatrix a(s.m, s.k, 1, {.padding = 2});
  const StoredMatrix b(s.n, s.k, DType::bf16, 2, {.shift = 1, .padding = 3});
  FloatMatrix c(s.m, s.n, 3, {.padding = 1});
  Twin twin(s.m, s.n);
  twin.add_all(c);
  twin.add_product(
      static_cast<double>(alpha), s.k, [&](auto i, auto k) { return rounded(a(i, k)); },
      [&](auto k, auto j) { return b(j, k); });
  const ExactScratch room(multiply_scratch_bytes(std::max<std::int64_t>(s.m, gemm_few_rows + 1), s.n, s.k));
  multiply(a.view, b.view, c.view, room.scratch());
  CHECK(room.guard_untouched());
  CHECK(c.padding_untouched());
  return error_in_units(c.view, twin);
}

double largest_difference(ConstMatrix a, ConstMatrix b) {
  double most = 0;
  for (std::int64_t i = 0; i < a.rows; ++i)
    for (std::int64_t j = 0; j < a.cols; ++j)
      most = std::max(most, std::abs(static_cast<double>(a.row(i)[j]) - static_cast<double>(b.row(i)[j])));
  return most;
}

FloatMatrix product(const VectorKernels& kernels, ConstMatrix a, WeightMatrix b, Workers workers) {
  FloatMatrix c(a.rows, b.rows, 1);
  for (std::int64_t i = 0; i < a.rows; ++i) std::fill_n(c.view.row(i), b.rows, 0.0f);
  multiply_rounded(kernels, a, b, 1.0f, c.view, workers);
  return c;
}

} // namespace

TEST_CASE("A product on pairs is that of the inputs rounded to bfloat16, within the rounding of its sums") {
  for_each_unit([](const VectorKernels& kernels) {
    for (const Product& s : products)
      for (const float alpha : {1.0f, 0.75f}) {
        INFO(instruction_set_name(kernels.set), " ", s.m, " ", s.n, " ", s.k, " ", alpha);
        CHECK(product_error(s, alpha, [&](ConstMatrix a, WeightMatrix b, Matrix c, Scratch scratch) {
                multiply_rounded(kernels, a, b, alpha, c, scratch);
              }) <= static_cast<double>(s.k + 4));
      }
  });
}

TEST_CASE("A product on tiles of inputs rounded to bfloat16 is that as well") {
  for (const Product& s : products) {
    INFO(s.m, " ", s.n, " ", s.k);
    CHECK(product_error(s, 0.75f, [](ConstMatrix a, WeightMatrix b, Matrix c, Scratch scratch) {
            multiply_on_tiles<EmulatedTiles>(vector_kernels(InstructionSet::portable), a, b, 0.75f, c,
                                             scratch, 1);
          }) <= static_cast<double>(s.k + 4));
  }
}

TEST_CASE("The processor's products of pairs have the bits of plain loops") {
  if (best_instruction_set(cpu_features()) < InstructionSet::avx512_bf16) {
    MESSAGE("not tested: no AVX512_BF16 here");
    return;
  }
  for (const Product& s : products) {
    const FloatMatrix a(s.m, s.k, 1, {.padding = 1});
    const StoredMatrix b(s.n, s.k, DType::bf16, 2, {.shift = 1});
    Team one(1);
    INFO(s.m, " ", s.n, " ", s.k);
    CHECK(same_bits(product(vector_kernels(InstructionSet::avx512_bf16), a.view, b.view, one.workers).view,
                    product(kernels_with_emulated_pairs(), a.view, b.view, one.workers).view));
  }
}

#if defined(__x86_64__)
TEST_CASE("The processor's tiles agree with plain loops for inputs rounded to bfloat16") {
  if (best_instruction_set(cpu_features()) < InstructionSet::amx) {
    MESSAGE("not tested: no AMX here");
    return;
  }
  for (const Product& s : products) {
    const FloatMatrix a(s.m, s.k, 1, {.padding = 1});
    const StoredMatrix b(s.n, s.k, DType::bf16, 2, {.shift = 1});
    FloatMatrix c(s.m, s.n, 3);
    FloatMatrix expected(s.m, s.n, 3);
    Team one(1);
    multiply_on_tiles<ProcessorTiles>(vector_kernels(InstructionSet::amx), a.view, b.view, 1.0f, c.view,
                                      one.workers, 1);
    multiply_on_tiles<EmulatedTiles>(vector_kernels(InstructionSet::portable), a.view, b.view, 1.0f,
                                     expected.view, one.workers, 1);
    INFO(s.m, " ", s.n, " ", s.k);
    CHECK(largest_difference(c.view, expected.view) <= 1e-4); // of sums of up to 2305 numbers below 1
    WARN(same_bits(c.view, expected.view));                   // as the manual has its arithmetic
  }
}
#endif

TEST_CASE("A rounded product has the same bits with any number of threads, and alone or beside other rows") {
  for_each_unit([](const VectorKernels& kernels) {
    const FloatMatrix a(150, 800, 1);
    const StoredMatrix b(100, 800, DType::bf16, 2);
    Team one(1);
    const FloatMatrix alone = product(kernels, a.view, b.view, one.workers);
    for (const int threads : {2, 3}) {
      Team team(threads);
      CHECK(same_bits(product(kernels, a.view, b.view, team.workers).view, alone.view));
    }
    const FloatMatrix part =
        product(kernels, a.view.rows_from(5, 61), b.view.block(17, 0, 50, 800), one.workers);
    CHECK(same_bits(alone.view.rows_from(5, 61).cols_from(17, 50), part.view));
  });
}

TEST_CASE("Infinity and NaN stay in their row of a rounded product, and numbers too large become infinite") {
  for_each_unit([](const VectorKernels& kernels) {
    FloatMatrix a(40, 90, 1);
    const StoredMatrix b(50, 90, DType::bf16, 2);
    Team one(1);
    const FloatMatrix before = product(kernels, a.view, b.view, one.workers);
    a.view.row(3)[7] = std::numeric_limits<float>::infinity();
    a.view.row(4)[89] = std::numeric_limits<float>::quiet_NaN();
    a.view.row(5)[0] = std::numeric_limits<float>::max(); // nearer to 2^128 than to bfloat16's largest
    const FloatMatrix after = product(kernels, a.view, b.view, one.workers);
    for (std::int64_t j = 0; j < 50; ++j) {
      CHECK(after.view.row(3)[j] - after.view.row(3)[j] != 0.0f);
      CHECK(after.view.row(4)[j] != after.view.row(4)[j]);
      CHECK(after.view.row(5)[j] - after.view.row(5)[j] != 0.0f);
    }
    CHECK(same_bits(after.view.rows_from(6, 34), before.view.rows_from(6, 34)));
    CHECK(same_bits(after.view.rows_from(0, 3), before.view.rows_from(0, 3)));
  });
}

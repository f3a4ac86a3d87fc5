// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/amx_product.hpp>
#include <tenon/kernels/instruction_set.hpp>

#include <support/emulated_tiles.hpp>
#include <support/naive.hpp>

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

/// The error of a product on `Unit`, in units of 2^-24 of the magnitudes.
template <TileUnit Unit>
double product_error(const Product& s, float alpha) {
  const FloatMatrix a(s.m, s.k, 1, {.padding = 2});
  const StoredMatrix b(s.n, s.k, DType::bf16, 2, {.shift = 1, .padding = 3});
  FloatMatrix c(s.m, s.n, 3, {.padding = 1});
  Twin twin(s.m, s.n);
  twin.add_all(c);
  twin.add_product(static_cast<double>(alpha), s.k, a, [&](auto k, auto j) { return b(j, k); });
  const ExactScratch room(amx_product_scratch_bytes);
  multiply_on_tiles<Unit>(a.view, b.view, alpha, c.view, room.scratch());
  CHECK(room.guard_untouched());
  CHECK(c.padding_untouched());
  return error_in_units(c.view, twin);
}

constexpr Product products[] = {{1, 1, 1},    {9, 33, 32},  {16, 16, 33},  {17, 31, 64},
                                {31, 5, 511}, {32, 32, 31}, {130, 40, 70}, {33, 34, 513}};

} // namespace

TEST_CASE("A product on tiles has the accuracy of one of floats for every edge of a tile") {
  for (const Product& s : products) {
    INFO(s.m, " ", s.n, " ", s.k);
    CHECK(product_error<EmulatedTiles>(s, 0.75f) <= static_cast<double>(s.k + 8));
  }
}

TEST_CASE("The scratch of a product on tiles is one constant") {
  CHECK(amx_product_scratch_bytes == 390 * 1024);
}

TEST_CASE("Three parts are a float to its last bit and keep infinity and NaN") {
  std::vector<float> values = {1.0f, 0x1.fffffep0f, -0x1.234567p-20f, 0x1.abcdefp100f, 0.0f};
  std::vector<std::uint16_t> packed(2 * amx_parts * amx_elements);
  const auto parts_of = [&](float value) {
    pack_parts({&value, 1, 1, 1}, packed.data());
    double sum = 0;
    for (std::size_t p = 0; p < 3; ++p) sum += static_cast<double>(f32_from_bf16(packed[p * amx_elements]));
    return sum;
  };
  for (const float value : values) CHECK(parts_of(value) == static_cast<double>(value));
  CHECK(std::isinf(parts_of(std::numeric_limits<float>::infinity())));
  CHECK(std::isnan(parts_of(std::numeric_limits<float>::quiet_NaN())));
}

#if defined(__x86_64__)
TEST_CASE("A product on the processor's tiles has that accuracy as well") {
  if (best_instruction_set(cpu_features()) < InstructionSet::amx) {
    MESSAGE("no AMX here");
    return;
  }
  for (const Product& s : products) {
    INFO(s.m, " ", s.n, " ", s.k);
    CHECK(product_error<ProcessorTiles>(s, 0.75f) <= static_cast<double>(s.k + 8));
  }
}
#endif

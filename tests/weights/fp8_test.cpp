// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/weights/convert.hpp>
#include <tenon/weights/fp8.hpp>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

using namespace tenon;

namespace {

/// The value by the definition of a float: sign, exponent with `bias`, `digits` of fraction.
double by_definition(unsigned bits, int digits, int bias) {
  const int exponent = static_cast<int>((bits & 0x7fU) >> digits);
  const auto fraction = static_cast<double>(bits & ((1U << digits) - 1U));
  const double size = exponent == 0 ? std::ldexp(fraction, 1 - bias - digits)
                                    : std::ldexp(fraction + (1 << digits), exponent - bias - digits);
  return (bits & 0x80U) != 0 ? -size : size;
}

bool same(float a, double b) { return static_cast<double>(a) == b && std::signbit(a) == std::signbit(b); }

} // namespace

TEST_CASE("All 256 values of e4m3 are those of its definition, NaN where all bits but the sign are ones") {
  for (unsigned bits = 0; bits < 256; ++bits) {
    CAPTURE(bits);
    const float value = f32_from_f8_e4m3(static_cast<std::uint8_t>(bits));
    if ((bits & 0x7f) == 0x7f) {
      CHECK(std::isnan(value));
      CHECK(std::signbit(value) == (bits >= 128));
    } else {
      CHECK(same(value, by_definition(bits, 3, 7)));
    }
  }
  CHECK(f32_from_f8_e4m3(0x7e) == 448.0f); // the largest: arXiv 2209.05433, table 1
  CHECK(f32_from_f8_e4m3(0x01) == 0x1p-9f);
}

TEST_CASE("All 256 values of e5m2 are those of its definition, infinities and NaNs as IEEE 754's") {
  for (unsigned bits = 0; bits < 256; ++bits) {
    CAPTURE(bits);
    const float value = f32_from_f8_e5m2(static_cast<std::uint8_t>(bits));
    if ((bits & 0x7f) > 0x7c)
      CHECK(std::isnan(value));
    else if ((bits & 0x7f) == 0x7c)
      CHECK(same(value, bits >= 128 ? -std::numeric_limits<double>::infinity()
                                    : std::numeric_limits<double>::infinity()));
    else
      CHECK(same(value, by_definition(bits, 2, 15)));
  }
  CHECK(f32_from_f8_e5m2(0x7b) == 57344.0f);
  CHECK(f32_from_f8_e5m2(0x01) == 0x1p-16f);
}

TEST_CASE("A row of 8-bit elements is decoded element by element and nothing beyond it is touched") {
  std::vector<std::byte> row(300);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<std::byte>(i * 7 % 256);
  for (const DType type : {DType::f8_e4m3, DType::f8_e5m2})
    for (const std::int64_t n : {0, 1, 63, 64, 65, 290}) {
      std::vector<float> values(301, -7.0f);
      decode(type, row.data() + 3, n, values.data());
      CHECK(values[static_cast<std::size_t>(n)] == -7.0f);
      for (std::int64_t i = 0; i < n; ++i) {
        const auto bits = std::to_integer<std::uint8_t>(row[static_cast<std::size_t>(3 + i)]);
        const float wanted = type == DType::f8_e4m3 ? f32_from_f8_e4m3(bits) : f32_from_f8_e5m2(bits);
        CHECK(std::bit_cast<std::uint32_t>(values[static_cast<std::size_t>(i)]) ==
              std::bit_cast<std::uint32_t>(wanted));
      }
    }
}

TEST_CASE("Factors may be of 8 bits, weights of layers may not") {
  for (const DType type : {DType::f8_e4m3, DType::f8_e5m2}) {
    CHECK(is_factor_dtype(type));
    CHECK_FALSE(is_weight_dtype(type));
  }
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) CHECK(is_factor_dtype(type));
  for (const DType type : {DType::f64, DType::i8, DType::u8, DType::boolean})
    CHECK_FALSE(is_factor_dtype(type));
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/weights/convert.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <vector>

using namespace tenon;

namespace {

constexpr std::array lengths{0, 1, 13, 63, 64, 65, 127, 200};

std::uint16_t narrow(DType type, float value) {
  return type == DType::f16 ? f16_from_f32(value) : bf16_from_f32(value);
}
float widen(DType type, std::uint16_t bits) {
  return type == DType::f16 ? f32_from_f16(bits) : f32_from_bf16(bits);
}

} // namespace

TEST_CASE("Decoding a row is widening each element wherever the row lies") {
  for (const DType type : {DType::f16, DType::bf16})
    for (const int length : lengths)
      for (const int shift : {0, 1, 2, 7}) {
        const auto n = static_cast<std::size_t>(length);
        std::vector<std::byte> row(2 * n + 8);
        for (std::size_t i = 0; i < 2 * n; ++i)
          row[i + static_cast<std::size_t>(shift)] = static_cast<std::byte>(i * 37 % 251);
        std::vector<float> values(n + 1, -1.0f);
        decode(type, row.data() + shift, length, values.data());
        bool same = values[n] == -1.0f;
        for (std::size_t i = 0; i < n; ++i) {
          std::uint16_t bits = 0;
          std::memcpy(&bits, row.data() + shift + 2 * i, 2);
          same = same &&
                 std::bit_cast<std::uint32_t>(values[i]) == std::bit_cast<std::uint32_t>(widen(type, bits));
        }
        INFO(dtype_name(type), " ", length, " ", shift);
        CHECK(same);
      }
}

TEST_CASE("Encoding a row is narrowing each element wherever the row goes") {
  for (const DType type : {DType::f16, DType::bf16})
    for (const int length : lengths)
      for (const int shift : {0, 1, 2, 7}) {
        const auto n = static_cast<std::size_t>(length);
        std::vector<float> values(n);
        for (std::size_t i = 0; i < n; ++i) values[i] = (static_cast<float>(i % 29) - 14.0f) * 1.2345e-3f;
        std::vector<std::byte> row(2 * n + 8, std::byte{0x5A});
        encode(type, values.data(), length, row.data() + shift);
        bool same = row[2 * n + static_cast<std::size_t>(shift)] == std::byte{0x5A};
        for (std::size_t i = 0; i < n; ++i) {
          std::uint16_t bits = 0;
          std::memcpy(&bits, row.data() + shift + 2 * i, 2);
          same = same && bits == narrow(type, values[i]);
        }
        INFO(dtype_name(type), " ", length, " ", shift);
        CHECK(same);
      }
}

TEST_CASE("A row of floats is copied bit for bit") {
  const std::array<std::uint32_t, 3> bits{0x7F800001, 0x80000001, 0x3F800000};
  std::array<std::byte, 13> row;
  std::memcpy(row.data() + 1, bits.data(), 12);
  std::array<float, 3> values;
  decode(DType::f32, row.data() + 1, 3, values.data());
  CHECK(std::memcmp(values.data(), bits.data(), 12) == 0);
  std::array<std::byte, 13> back;
  encode(DType::f32, values.data(), 3, back.data() + 1);
  CHECK(std::memcmp(back.data() + 1, bits.data(), 12) == 0);
}

// SPDX-License-Identifier: Apache-2.0
// The two 8-bit floating-point formats of checkpoints and adapters, as bits (Micikevicius et al., "FP8
// Formats for Deep Learning", arXiv 2209.05433, table 1): e4m3 (4 exponent bits, bias 7, no infinities, all
// ones is NaN: PyTorch's float8_e4m3fn) and e5m2 (the upper half of a binary16). Widening is exact. A row is
// read through a table of 256 floats. Cost: one look-up an element. Any thread.
#pragma once

#include <tenon/weights/dtype.hpp>

#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>

namespace tenon {

/// The value of e4m3 `bits`, exact. A subnormal is a multiple of 2^-9.
[[nodiscard]] constexpr float f32_from_f8_e4m3(std::uint8_t bits) noexcept {
  const std::uint32_t sign = std::uint32_t{bits & 0x80U} << 24;
  const std::uint32_t magnitude = bits & 0x7fU;
  std::uint32_t value = (magnitude << 20) + ((127U - 7U) << 23);
  if (magnitude == 0x7f) value = 0x7fc00000;
  if (magnitude < 8) value = std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-9F);
  return std::bit_cast<float>(value | sign);
}

/// The value of e5m2 `bits`, exact: that of the binary16 whose upper half they are. A subnormal is a multiple
/// of 2^-16. (f32_from_f16 calculates with NaNs, which a constant expression may not.)
[[nodiscard]] constexpr float f32_from_f8_e5m2(std::uint8_t bits) noexcept {
  const std::uint32_t sign = std::uint32_t{bits & 0x80U} << 24;
  const std::uint32_t magnitude = bits & 0x7fU;
  std::uint32_t value = (magnitude << 21) + ((127U - 15U) << 23);
  if (magnitude >= 0x7c) value = magnitude == 0x7c ? 0x7f800000 : 0x7fc00000;
  if (magnitude < 4) value = std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-16F);
  return std::bit_cast<float>(value | sign);
}

/// The value of each of the 256 patterns.
inline constexpr std::array<float, 256> f8_e4m3_values = [] {
  std::array<float, 256> values{};
  for (std::size_t i = 0; i < 256; ++i) values[i] = f32_from_f8_e4m3(static_cast<std::uint8_t>(i));
  return values;
}();
inline constexpr std::array<float, 256> f8_e5m2_values = [] {
  std::array<float, 256> values{};
  for (std::size_t i = 0; i < 256; ++i) values[i] = f32_from_f8_e5m2(static_cast<std::uint8_t>(i));
  return values;
}();

/// F8_E4M3, F8_E5M2
[[nodiscard]] constexpr bool is_fp8(DType type) noexcept {
  return type == DType::f8_e4m3 || type == DType::f8_e5m2;
}

/// The values of `n` elements. Precondition: `is_fp8(type)`.
inline void decode_fp8(DType type, const std::byte* from, std::int64_t n, float* to) noexcept {
  assert(is_fp8(type) && "decode_fp8 knows F8_E4M3 and F8_E5M2");
  const float* const values = type == DType::f8_e4m3 ? f8_e4m3_values.data() : f8_e5m2_values.data();
  for (std::int64_t i = 0; i < n; ++i) to[i] = values[std::to_integer<std::size_t>(from[i])];
}

} // namespace tenon

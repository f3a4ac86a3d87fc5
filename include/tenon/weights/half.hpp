// SPDX-License-Identifier: Apache-2.0
// The two 16-bit floating-point formats, as bits: IEEE 754 binary16 (f16: 5 exponent bits, 10 of fraction)
// and bfloat16 (bf16: the upper half of an f32). Widening is exact; narrowing rounds to nearest, ties to
// even, as IEEE 754 section 4.3.1 and PyTorch do. A NaN stays a NaN of the same sign. Every function is
// branch-free selects over integers, so that a loop of them becomes vector code, and constexpr. Any thread.
#pragma once

#include <bit>
#include <cstdint>

namespace tenon {

/// All ones where `a < b`, else zero; both below 2^31. (A comparison would be turned into a branch by g++.)
[[nodiscard]] constexpr std::uint32_t mask_if_less(std::uint32_t a, std::uint32_t b) noexcept {
  return static_cast<std::uint32_t>(static_cast<std::int32_t>(a - b) >> 31);
}

/// The value of binary16 `bits`, exact. A subnormal is read as 2^-14 (1 + fraction), from which 2^-14 is then
/// subtracted, exactly; every other value has 0 subtracted.
[[nodiscard]] constexpr float f32_from_f16(std::uint16_t bits) noexcept {
  constexpr std::uint32_t exponent_one = std::uint32_t{1} << 23;
  constexpr std::uint32_t rebias = (127 - 15) * exponent_one;
  constexpr std::uint32_t least_normal = (127 - 14) * exponent_one; // 2^-14
  const std::uint32_t sign = (bits & std::uint32_t{0x8000}) << 16;
  const std::uint32_t magnitude = (bits & std::uint32_t{0x7fff}) << 13;
  const std::uint32_t subnormal = mask_if_less(magnitude, exponent_one);
  const std::uint32_t special = ~mask_if_less(magnitude, 31 * exponent_one); // infinity, NaN
  const std::uint32_t raised = magnitude + rebias + (subnormal & exponent_one) + (special & rebias);
  const float value = std::bit_cast<float>(raised) - std::bit_cast<float>(subnormal & least_normal);
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
}

/// The binary16 nearest to `value`, ties to even; from 65520 on infinity, to 2^-25 zero.
/// A subnormal result is rounded by the float adder: 0.5f has binary16's least subnormal, 2^-24, as its ulp.
[[nodiscard]] constexpr std::uint16_t f16_from_f32(float value) noexcept {
  constexpr std::uint32_t exponent_one = std::uint32_t{1} << 23;
  constexpr std::uint32_t rebias = (127 - 15) * exponent_one;
  constexpr std::uint32_t half = 126 * exponent_one; // 0.5f
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000;
  const std::uint32_t magnitude = bits & 0x7fffffff;
  const std::uint32_t subnormal = mask_if_less(magnitude, (127 - 14) * exponent_one);  // below 2^-14
  const std::uint32_t too_large = ~mask_if_less(magnitude, (127 + 16) * exponent_one); // 2^16 or more
  const std::uint32_t nan = mask_if_less(255 * exponent_one, magnitude);
  const float sum = std::bit_cast<float>(magnitude & subnormal) + 0.5f;
  const std::uint32_t small = std::bit_cast<std::uint32_t>(sum) - half;
  const std::uint32_t normal = (magnitude - rebias + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  const std::uint32_t special = 0x7c00 | (nan & (0x200 | ((magnitude >> 13) & 0x3ff)));
  const std::uint32_t finite = (subnormal & small) | (~subnormal & normal);
  return static_cast<std::uint16_t>((too_large & special) | (~too_large & finite) | sign);
}

/// The value of bfloat16 `bits`, exact.
[[nodiscard]] constexpr float f32_from_bf16(std::uint16_t bits) noexcept {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

/// The bfloat16 nearest to `value`, ties to even; what rounds above the largest finite one is infinity.
[[nodiscard]] constexpr std::uint16_t bf16_from_f32(float value) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const std::uint32_t nan = (bits >> 16) | 0x40;
  const bool is_nan = (bits & 0x7fffffff) > (std::uint32_t{255} << 23);
  return static_cast<std::uint16_t>(is_nan ? nan : rounded);
}

} // namespace tenon

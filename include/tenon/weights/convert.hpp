// SPDX-License-Identifier: Apache-2.0
// Rows of stored weights to floats and back, for F32, F16 and BF16, and of adapters' 8-bit factors to floats.
// Elements go through in blocks of a fixed count, which compilers turn into vector code at -O2 already; a
// shorter end is padded and takes the same path, so that a value never depends on its position or address.
// Neither `from` nor `to` needs any alignment, but they must not overlap. Cost: one read and one write per
// element, at most 640 bytes of stack. Any thread.
#pragma once

#include <tenon/weights/dtype.hpp>
#include <tenon/weights/fp8.hpp>
#include <tenon/weights/half.hpp>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tenon {

/// Elements converted together.
inline constexpr std::size_t convert_block = 64;

/// `to[i] = convert(from[i])` for one block. The results go through a local array, of which the compiler
/// knows that it does not overlap `from`.
template <class From, class To, class Convert>
void convert_one_block(const std::byte* from, std::byte* to, Convert convert) noexcept {
  To out[convert_block];
  for (std::size_t i = 0; i < convert_block; ++i) {
    From value;
    std::memcpy(&value, from + i * sizeof(From), sizeof(From));
    out[i] = convert(value);
  }
  std::memcpy(to, out, sizeof(out));
}

/// `to[i] = convert(from[i])` for `n` elements, read and written by address.
template <class From, class To, class Convert>
void convert_elements(const std::byte* from, std::size_t n, std::byte* to, Convert convert) noexcept {
  for (; n >= convert_block; n -= convert_block) {
    convert_one_block<From, To>(from, to, convert);
    from += convert_block * sizeof(From);
    to += convert_block * sizeof(To);
  }
  if (n == 0) return;
  std::byte padded[convert_block * sizeof(From)] = {};
  std::byte converted[convert_block * sizeof(To)];
  std::memcpy(padded, from, n * sizeof(From));
  convert_one_block<From, To>(padded, converted, convert);
  std::memcpy(to, converted, n * sizeof(To));
}

/// The values of `n` elements stored as `type`. Exact. Precondition: `is_factor_dtype(type)`.
inline void decode(DType type, const std::byte* from, std::int64_t n, float* to) noexcept {
  assert(is_factor_dtype(type) && "decode knows F32, F16, BF16 and the two 8-bit types");
  if (n <= 0) return;
  if (is_fp8(type)) return decode_fp8(type, from, n, to);
  const auto count = static_cast<std::size_t>(n);
  auto* const out = reinterpret_cast<std::byte*>(to);
  if (type == DType::f32)
    std::memcpy(out, from, count * sizeof(float));
  else if (type == DType::f16)
    convert_elements<std::uint16_t, float>(from, count, out, [](std::uint16_t b) { return f32_from_f16(b); });
  else
    convert_elements<std::uint16_t, float>(from, count, out,
                                           [](std::uint16_t b) { return f32_from_bf16(b); });
}

/// `n` floats stored as `type`, each rounded once, to nearest even. Precondition: `is_weight_dtype(type)`.
inline void encode(DType type, const float* from, std::int64_t n, std::byte* to) noexcept {
  assert(is_weight_dtype(type) && "encode knows F32, F16 and BF16");
  if (n <= 0) return;
  const auto count = static_cast<std::size_t>(n);
  const auto* const in = reinterpret_cast<const std::byte*>(from);
  if (type == DType::f32)
    std::memcpy(to, in, count * sizeof(float));
  else if (type == DType::f16)
    convert_elements<float, std::uint16_t>(in, count, to, [](float x) { return f16_from_f32(x); });
  else
    convert_elements<float, std::uint16_t>(in, count, to, [](float x) { return bf16_from_f32(x); });
}

} // namespace tenon

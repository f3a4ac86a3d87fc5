// SPDX-License-Identifier: Apache-2.0
// Element types as safetensors names them. Tenon computes with F32, F16 and BF16 weights, and with factors of
// adapters in these and in 8 bits; the others are known by name and size, so that a file which contains them
// can be checked, listed and refused with a sentence.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tenon {

enum class DType : std::uint8_t {
  f64,
  f32,
  f16,
  bf16,
  f8_e4m3,
  f8_e5m2,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean,
};

struct DTypeInfo {
  std::string_view name; ///< as in a safetensors header
  std::int64_t bytes;    ///< of one element
};

inline constexpr std::array<DTypeInfo, 15> dtype_table{{
    {"F64", 8},
    {"F32", 4},
    {"F16", 2},
    {"BF16", 2},
    {"F8_E4M3", 1},
    {"F8_E5M2", 1},
    {"I64", 8},
    {"I32", 4},
    {"I16", 2},
    {"I8", 1},
    {"U64", 8},
    {"U32", 4},
    {"U16", 2},
    {"U8", 1},
    {"BOOL", 1},
}};

[[nodiscard]] constexpr std::string_view dtype_name(DType type) noexcept {
  return dtype_table[static_cast<std::size_t>(type)].name;
}
[[nodiscard]] constexpr std::int64_t dtype_bytes(DType type) noexcept {
  return dtype_table[static_cast<std::size_t>(type)].bytes;
}
[[nodiscard]] constexpr std::optional<DType> dtype_from_name(std::string_view name) noexcept {
  for (std::size_t i = 0; i < dtype_table.size(); ++i)
    if (dtype_table[i].name == name) return static_cast<DType>(i);
  return std::nullopt;
}

/// F32, F16, BF16: the types that a layer's weight may have.
[[nodiscard]] constexpr bool is_weight_dtype(DType type) noexcept {
  return type == DType::f32 || type == DType::f16 || type == DType::bf16;
}

/// F32, F16, BF16, F8_E4M3, F8_E5M2: the types that an adapter's factor may have.
[[nodiscard]] constexpr bool is_factor_dtype(DType type) noexcept {
  return is_weight_dtype(type) || type == DType::f8_e4m3 || type == DType::f8_e5m2;
}

inline constexpr DType f32 = DType::f32;
inline constexpr DType f16 = DType::f16;
inline constexpr DType bf16 = DType::bf16;
inline constexpr DType i32 = DType::i32;

} // namespace tenon

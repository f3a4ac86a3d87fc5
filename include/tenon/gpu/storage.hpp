// SPDX-License-Identifier: Apache-2.0
// Reading and writing stored numbers on a device. Functors are templates over the element type alone, one of f32, f16
// and bf16; `with_storage` goes from a dtype to that type.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/gpu/system.hpp>
#include <tenon/weights/dtype.hpp>
#include <tenon/weights/half.hpp>

#include <cstddef>
#include <cstdint>

namespace tenon::gpu {

struct StoredF32 {
  using bits = float;
  static constexpr DType dtype = DType::f32;
  TENON_HD static float value(bits x) { return x; }
  TENON_HD static bits from(float x) { return x; }
};
struct StoredF16 {
  using bits = std::uint16_t;
  static constexpr DType dtype = DType::f16;
  TENON_HD static float value(bits x) { return f32_from_f16(x); }
  TENON_HD static bits from(float x) { return f16_from_f32(x); }
};
struct StoredBf16 {
  using bits = std::uint16_t;
  static constexpr DType dtype = DType::bf16;
  TENON_HD static float value(bits x) { return f32_from_bf16(x); }
  TENON_HD static bits from(float x) { return bf16_from_f32(x); }
};

/// Stored numbers on a device. Precondition: aligned to their size (what a device holds begins at multiples of 256).
template <class Storage>
struct StoredPointer {
  const typename Storage::bits* data = nullptr;

  StoredPointer() = default;
  TENON_HD explicit StoredPointer(const std::byte* bytes)
      : data(reinterpret_cast<const typename Storage::bits*>(bytes)) {}
  TENON_HD float operator[](std::int64_t i) const { return Storage::value(data[i]); }
  TENON_HD explicit operator bool() const { return data != nullptr; }
};

/// f(StoredF32{}), f(StoredF16{}) or f(StoredBf16{}).
template <class F>
void with_storage(DType dtype, F f) {
  switch (dtype) {
  case DType::f32:
    return f(StoredF32{});
  case DType::f16:
    return f(StoredF16{});
  case DType::bf16:
    return f(StoredBf16{});
  default:
    throw error(ErrorCode::wrong_dtype,
                concat("on a device: expected F32, F16 or BF16, got ", dtype_name(dtype)));
  }
}

} // namespace tenon::gpu

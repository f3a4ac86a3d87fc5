// SPDX-License-Identifier: Apache-2.0
// A tensor somebody else owns: address, element type, shape, strides. It never owns, copies or frees.
#pragma once

#include <tenon/core/text.hpp>
#include <tenon/weights/dtype.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tenon {

inline constexpr int max_rank = 8;

/// "[384, 1536]", outermost dimension first.
[[nodiscard]] inline std::string shape_text(std::span<const std::int64_t> shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) out += concat(i == 0 ? "" : ", ", shape[i]);
  return out + "]";
}

/// Read-only n-d view, row-major unless its strides say otherwise. Strides count elements.
/// Precondition of the accessors: `0 <= axis < rank`.
struct TensorView {
  const std::byte* data = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  std::array<std::int64_t, max_rank> extents{};
  std::array<std::int64_t, max_rank> strides{};

  TensorView() = default;

  /// A contiguous row-major tensor at `address`. Precondition: at most `max_rank` dimensions.
  TensorView(const void* address, DType type, std::span<const std::int64_t> shape)
      : data(static_cast<const std::byte*>(address)), dtype(type), rank(static_cast<int>(shape.size())) {
    std::int64_t stride = 1;
    for (std::size_t i = shape.size(); i-- > 0;) {
      extents[i] = shape[i];
      strides[i] = stride;
      stride *= shape[i];
    }
  }

  [[nodiscard]] std::span<const std::int64_t> shape() const noexcept {
    return {extents.data(), static_cast<std::size_t>(rank)};
  }
  [[nodiscard]] std::int64_t extent(int axis) const noexcept {
    return extents[static_cast<std::size_t>(axis)];
  }
  [[nodiscard]] std::int64_t stride(int axis) const noexcept {
    return strides[static_cast<std::size_t>(axis)];
  }
  [[nodiscard]] bool has_shape(std::span<const std::int64_t> other) const noexcept {
    if (static_cast<std::size_t>(rank) != other.size()) return false;
    for (std::size_t i = 0; i < other.size(); ++i)
      if (extents[i] != other[i]) return false;
    return true;
  }
  /// Elements in all; 1 for a scalar (rank 0).
  [[nodiscard]] std::int64_t size() const noexcept {
    std::int64_t n = 1;
    for (const std::int64_t e : shape()) n *= e;
    return n;
  }
  [[nodiscard]] std::int64_t bytes() const noexcept { return size() * dtype_bytes(dtype); }
  [[nodiscard]] bool is_contiguous() const noexcept {
    std::int64_t expected = 1;
    for (int axis = rank; axis-- > 0;) {
      if (extent(axis) != 1 && stride(axis) != expected) return false;
      expected *= extent(axis);
    }
    return true;
  }
  /// "[384, 1536] F32"
  [[nodiscard]] std::string text() const { return concat(shape_text(shape()), " ", dtype_name(dtype)); }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// The views that kernels take: somebody else's numbers as a row-major matrix. Activations are floats; weights
// are bytes of a stored type, as the file has them (any address, the shape [out, in] of a checkpoint).
// They own nothing and check nothing in release builds; every extent and stride counts elements.
#pragma once

#include <tenon/weights/dtype.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// Read-only floats [rows, cols]; row i begins at `data + i * stride`. Precondition: `stride >= cols`.
struct ConstMatrix {
  const float* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;

  [[nodiscard]] const float* row(std::int64_t i) const noexcept { return data + i * stride; }
  [[nodiscard]] std::span<const float> row_span(std::int64_t i) const noexcept {
    return {row(i), static_cast<std::size_t>(cols)};
  }
  /// The `count` rows, or columns, from `first` on.
  [[nodiscard]] ConstMatrix rows_from(std::int64_t first, std::int64_t count) const noexcept {
    return {row(first), count, cols, stride};
  }
  [[nodiscard]] ConstMatrix cols_from(std::int64_t first, std::int64_t count) const noexcept {
    return {data + first, rows, count, stride};
  }
};

/// Floats [rows, cols] to write; as ConstMatrix.
struct Matrix {
  float* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;

  [[nodiscard]] float* row(std::int64_t i) const noexcept { return data + i * stride; }
  [[nodiscard]] std::span<float> row_span(std::int64_t i) const noexcept {
    return {row(i), static_cast<std::size_t>(cols)};
  }
  [[nodiscard]] Matrix rows_from(std::int64_t first, std::int64_t count) const noexcept {
    return {row(first), count, cols, stride};
  }
  [[nodiscard]] Matrix cols_from(std::int64_t first, std::int64_t count) const noexcept {
    return {data + first, rows, count, stride};
  }
  operator ConstMatrix() const noexcept { return {data, rows, cols, stride}; } // NOLINT: a view of the same
};

/// A stored weight [rows, cols] = [out, in]. `data` needs no alignment.
struct WeightMatrix {
  const std::byte* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0; ///< elements from one row to the next

  [[nodiscard]] const std::byte* at(std::int64_t row, std::int64_t col) const noexcept {
    return data + (row * stride + col) * dtype_bytes(dtype);
  }
  /// Of the elements, without what lies between rows.
  [[nodiscard]] std::int64_t bytes() const noexcept { return rows * cols * dtype_bytes(dtype); }
  [[nodiscard]] WeightMatrix block(std::int64_t row, std::int64_t col, std::int64_t row_count,
                                   std::int64_t col_count) const noexcept {
    return {at(row, col), dtype, row_count, col_count, stride};
  }
};

/// Of `rows`, what falls to `count` of `total` steps from step `first` on.
[[nodiscard]] inline WeightMatrix share_of(WeightMatrix rows, std::int64_t first, std::int64_t count,
                                           std::int64_t total) noexcept {
  const std::int64_t begin = rows.rows * first / total;
  return rows.block(begin, 0, rows.rows * (first + count) / total - begin, rows.cols);
}

/// A stored bias or norm weight; `data == nullptr` where a layer has none.
struct WeightVector {
  const std::byte* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t size = 0;

  [[nodiscard]] bool empty() const noexcept { return data == nullptr; }
  [[nodiscard]] const std::byte* at(std::int64_t i) const noexcept { return data + i * dtype_bytes(dtype); }
};

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// Matrices that an adapter's file does not have as a kernel wants them: turned round, or multiplied out with a
// small core. Each is a buffer in the ledger, under `adapter`.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/tucker.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/weights/convert.hpp>
#include <tenon/weights/tensor_view.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace tenon {

/// A tensor as a matrix: its first dimension as rows, all others as columns. Precondition: contiguous.
[[nodiscard]] inline kernels::WeightMatrix flat_matrix(const TensorView& view) noexcept {
  const std::int64_t rows = view.rank == 0 ? 1 : view.extent(0);
  const std::int64_t cols = rows == 0 ? 0 : view.size() / rows;
  return {view.data, view.dtype, rows, cols, cols};
}
[[nodiscard]] inline kernels::WeightVector flat_vector(const TensorView& view) noexcept {
  return {view.data, view.dtype, view.size()};
}

class PreparedMatrices {
 public:
  PreparedMatrices(Ledger& ledger, std::vector<Buffer>& buffers) : ledger_(ledger), buffers_(buffers) {}

  /// Room for floats. Throws as Buffer does.
  [[nodiscard]] float* floats(std::int64_t count) {
    return reinterpret_cast<float*>(bytes(count * static_cast<std::int64_t>(sizeof(float))));
  }
  /// The transpose, in the same dtype: every value as stored.
  [[nodiscard]] kernels::WeightMatrix transposed(const kernels::WeightMatrix& from) {
    const std::int64_t element = dtype_bytes(from.dtype);
    std::byte* const to = bytes(from.bytes());
    for (std::int64_t i = 0; i < from.rows; ++i)
      for (std::int64_t j = 0; j < from.cols; ++j)
        std::memcpy(to + (j * from.rows + i) * element, from.at(i, j), static_cast<std::size_t>(element));
    return {to, from.dtype, from.cols, from.rows, from.rows};
  }
  /// [rows, cols]: the matrix from column `first` on, zeros around it.
  [[nodiscard]] kernels::WeightMatrix widened(const kernels::WeightMatrix& from, std::int64_t first,
                                              std::int64_t cols) {
    const std::int64_t element = dtype_bytes(from.dtype);
    std::byte* const to = bytes(from.rows * cols * element);
    std::memset(to, 0, static_cast<std::size_t>(from.rows * cols * element));
    for (std::int64_t i = 0; i < from.rows; ++i)
      std::memcpy(to + (i * cols + first) * element, from.at(i, 0),
                  static_cast<std::size_t>(from.cols * element));
    return {to, from.dtype, from.rows, cols, cols};
  }
  /// [n, cols * positions]: what a core [n, m, positions] makes of the input side [m, cols].
  [[nodiscard]] kernels::WeightMatrix times_core(const kernels::WeightMatrix& core, std::int64_t positions,
                                                 const kernels::WeightMatrix& down) {
    const std::int64_t width = down.cols * positions;
    float* const to = floats(core.rows * width);
    kernels::fold_core(core, down, to);
    return {reinterpret_cast<const std::byte*>(to), DType::f32, core.rows, width, width};
  }
  [[nodiscard]] const float* floats_of(const kernels::WeightVector& vector) {
    float* const to = floats(vector.size);
    decode(vector.dtype, vector.data, vector.size, to);
    return to;
  }
  /// [rows, cols] of one value.
  [[nodiscard]] kernels::WeightMatrix filled(std::int64_t rows, std::int64_t cols, float value) {
    float* const to = floats(rows * cols);
    std::fill_n(to, rows * cols, value);
    return {reinterpret_cast<const std::byte*>(to), DType::f32, rows, cols, cols};
  }
  [[nodiscard]] kernels::WeightVector filled_vector(std::int64_t size, float value) {
    return {filled(size, 1, value).data, DType::f32, size};
  }
  /// left [n, rank] right [rank, 1], as n floats.
  [[nodiscard]] const float* column_of(const kernels::WeightMatrix& left,
                                       const kernels::WeightMatrix& right) {
    float* const to = floats(left.rows);
    for (std::int64_t i = 0; i < left.rows; ++i) {
      double sum = 0;
      for (std::int64_t r = 0; r < left.cols; ++r) {
        float one = 0;
        float two = 0;
        decode(left.dtype, left.at(i, r), 1, &one);
        decode(right.dtype, right.at(r, 0), 1, &two);
        sum += static_cast<double>(one) * static_cast<double>(two);
      }
      to[i] = static_cast<float>(sum);
    }
    return to;
  }
  /// gain[i] m[i, j], as floats.
  [[nodiscard]] kernels::WeightMatrix scaled_rows(const kernels::WeightMatrix& m,
                                                  const kernels::WeightVector& gain) {
    float* const to = floats(m.rows * m.cols);
    for (std::int64_t i = 0; i < m.rows; ++i) {
      float factor = 0;
      decode(gain.dtype, gain.at(i), 1, &factor);
      decode(m.dtype, m.at(i, 0), m.cols, to + i * m.cols);
      for (std::int64_t j = 0; j < m.cols; ++j) to[i * m.cols + j] *= factor;
    }
    return {reinterpret_cast<const std::byte*>(to), DType::f32, m.rows, m.cols, m.cols};
  }

 private:
  [[nodiscard]] std::byte* bytes(std::int64_t count) {
    buffers_.emplace_back(ledger_, Category::adapter, count, "preparing an adapter");
    return buffers_.back().data();
  }

  Ledger& ledger_;
  std::vector<Buffer>& buffers_;
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// How a kernel walks a weight of any stored type: in even tiles, each seen as floats only while it is used. A
// new storage type (8 or 4 bits, with scales) enters the products and the merge here, and nowhere else. Cost:
// decoding, into the room the caller gives; nothing where the weight is aligned floats. Any thread.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/vector_kernels.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// `total` cut into the fewest parts of at most `most`, all but the last of one size, a multiple of `step`.
[[nodiscard]] constexpr std::int64_t even_part(std::int64_t total, std::int64_t most,
                                               std::int64_t step) noexcept {
  const std::int64_t parts = (total + most - 1) / most;
  const std::int64_t part = (total + parts - 1) / parts;
  return std::min(total, (part + step - 1) / step * step);
}

/// A float matrix read as a weight.
[[nodiscard]] inline WeightMatrix as_weight(ConstMatrix b) noexcept {
  return {reinterpret_cast<const std::byte*>(b.data), DType::f32, b.rows, b.cols, b.stride};
}

/// The block's values as floats: in place if they are aligned floats already, else decoded into `room`.
[[nodiscard]] inline ConstMatrix float_tile(const VectorKernels& kernels, WeightMatrix block,
                                            std::span<float> room) noexcept {
  if (block.dtype == DType::f32 && reinterpret_cast<std::uintptr_t>(block.data) % alignof(float) == 0)
    return {reinterpret_cast<const float*>(block.data), block.rows, block.cols, block.stride};
  const bool is_dense = block.stride == block.cols;
  const std::int64_t runs = is_dense ? 1 : block.rows;
  const std::int64_t length = is_dense ? block.rows * block.cols : block.cols;
  for (std::int64_t i = 0; i < runs; ++i)
    kernels.decode(block.dtype, block.at(i, 0), length, room.data() + i * length);
  return {room.data(), block.rows, block.cols, block.cols};
}

/// `f(col, count, values)` for a row's stored values, some hundred at a time, as floats.
template <class F>
void visit_row(const VectorKernels& kernels, WeightMatrix matrix, std::int64_t row, F f) {
  constexpr std::int64_t block = 256;
  float values[block];
  for (std::int64_t j = 0; j < matrix.cols; j += block) {
    const std::int64_t count = std::min(block, matrix.cols - j);
    kernels.decode(matrix.dtype, matrix.at(row, j), count, values);
    f(j, count, static_cast<const float*>(values));
  }
}

/// The matrix's rows from `first` on, as floats.
inline void decode_rows(const VectorKernels& kernels, WeightMatrix matrix, std::int64_t first,
                        Matrix to) noexcept {
  for (std::int64_t r = 0; r < to.rows; ++r)
    kernels.decode(matrix.dtype, matrix.at(first + r, 0), to.cols, to.row(r));
}

} // namespace tenon::kernels

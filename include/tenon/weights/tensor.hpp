// SPDX-License-Identifier: Apache-2.0
// A tensor that owns its floats: what a session returns and what a program builds its inputs from. Row-major.
// Its memory is the caller's own and stands in no ledger. Views of Tensors and of spans are what sessions
// take.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/weights/tensor_view.hpp>

#include <cstring>
#include <utility>
#include <vector>

namespace tenon {

class Tensor {
 public:
  Tensor() = default;
  /// Zeros. Throws `error{bad_argument}` for a negative extent or more than `max_rank` of them.
  explicit Tensor(std::vector<std::int64_t> shape)
      : shape_(std::move(shape)), values_(static_cast<std::size_t>(checked_size(shape_))) {}
  /// Throws `shape_error` unless there are as many values as the shape says.
  Tensor(std::vector<std::int64_t> shape, std::vector<float> values)
      : shape_(std::move(shape)), values_(std::move(values)) {
    if (const std::int64_t size = checked_size(shape_); size != std::ssize(values_))
      throw shape_error(ErrorCode::wrong_shape, concat("Tensor: expected ", size, " values for shape ",
                                                       shape_text(shape_), ", got ", values_.size()));
  }

  [[nodiscard]] std::span<const std::int64_t> shape() const noexcept { return shape_; }
  [[nodiscard]] std::int64_t size() const noexcept { return std::ssize(values_); }
  [[nodiscard]] std::span<float> values() noexcept { return values_; }
  [[nodiscard]] std::span<const float> values() const noexcept { return values_; }
  /// Row `i` of the last dimension, all others counted as rows.
  [[nodiscard]] std::span<const float> row(std::int64_t i) const noexcept {
    const auto width = static_cast<std::size_t>(shape_.empty() ? 1 : shape_.back());
    return std::span<const float>(values_).subspan(static_cast<std::size_t>(i) * width, width);
  }
  operator TensorView() const { return {values_.data(), DType::f32, shape_}; } // NOLINT: a view of the same

  /// Same shape and same bits: -0 differs from 0, a NaN equals itself.
  [[nodiscard]] friend bool operator==(const Tensor& a, const Tensor& b) noexcept {
    return a.shape_ == b.shape_ && a.values_.size() == b.values_.size() &&
           (a.values_.empty() ||
            std::memcmp(a.values_.data(), b.values_.data(), a.values_.size() * sizeof(float)) == 0);
  }

 private:
  static std::int64_t checked_size(std::span<const std::int64_t> shape) {
    if (shape.size() > static_cast<std::size_t>(max_rank))
      throw error(ErrorCode::bad_argument,
                  concat("Tensor: at most ", max_rank, " dimensions, got ", shape.size()));
    std::int64_t size = 1;
    for (const std::int64_t extent : shape) {
      if (extent < 0)
        throw error(ErrorCode::bad_argument, concat("Tensor: negative extent in ", shape_text(shape)));
      size *= extent;
    }
    return size;
  }

  std::vector<std::int64_t> shape_{};
  std::vector<float> values_{};
};

/// Views over a caller's own row-major values: `view(ids, {batch, tokens})`. Throws `shape_error` if they are
/// not as many as the shape says.
template <class T>
[[nodiscard]] TensorView view_of(std::span<const T> values, DType dtype,
                                 std::initializer_list<std::int64_t> shape) {
  const TensorView out(values.data(), dtype, std::span<const std::int64_t>(shape.begin(), shape.size()));
  if (out.size() != std::ssize(values))
    throw shape_error(ErrorCode::wrong_shape, concat("view: expected ", out.size(), " values for shape ",
                                                     shape_text(out.shape()), ", got ", values.size()));
  return out;
}
[[nodiscard]] inline TensorView view(std::span<const float> values,
                                     std::initializer_list<std::int64_t> shape) {
  return view_of(values, DType::f32, shape);
}
[[nodiscard]] inline TensorView view(std::span<const std::int32_t> values,
                                     std::initializer_list<std::int64_t> shape) {
  return view_of(values, DType::i32, shape);
}

} // namespace tenon

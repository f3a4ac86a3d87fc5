// SPDX-License-Identifier: Apache-2.0
// What a session reads of another library's container: a view of its numbers where they lie row after row, else a copy.
// eigen.hpp and xtensor.hpp make them.
#pragma once

#include <tenon/weights/tensor_view.hpp>

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace tenon {

/// Element types that an input may have.
template <class T>
concept InputElement =
    std::is_same_v<std::remove_const_t<T>, float> || std::is_same_v<std::remove_const_t<T>, std::int32_t>;

template <InputElement T>
inline constexpr DType input_dtype = std::is_same_v<std::remove_const_t<T>, float> ? DType::f32 : DType::i32;

/// Valid as long as what it was borrowed from.
class Borrowed {
 public:
  /// A view of `first`, dense and row-major.
  template <InputElement T>
  [[nodiscard]] static Borrowed view(const T* first, std::span<const std::int64_t> shape) {
    return Borrowed(TensorView(first, input_dtype<T>, shape), {});
  }
  /// Its own copy of the numbers, given in row-major order.
  template <InputElement T>
  [[nodiscard]] static Borrowed copy(const T* first, std::span<const std::int64_t> shape) {
    const TensorView source(first, input_dtype<T>, shape);
    std::vector<std::byte> bytes(source.data, source.data + source.bytes());
    const TensorView own(bytes.data(), source.dtype, shape);
    return Borrowed(own, std::move(bytes));
  }
  Borrowed(Borrowed&&) noexcept = default; // a vector keeps its bytes where they are
  Borrowed& operator=(Borrowed&&) noexcept = default;
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  [[nodiscard]] bool is_copy() const noexcept { return !bytes_.empty(); }
  operator TensorView() const noexcept {
    return view_;
  } // NOLINT(google-explicit-constructor): as a Tensor does

 private:
  Borrowed(const TensorView& view, std::vector<std::byte> bytes) : view_(view), bytes_(std::move(bytes)) {}

  TensorView view_;
  std::vector<std::byte> bytes_;
};

} // namespace tenon

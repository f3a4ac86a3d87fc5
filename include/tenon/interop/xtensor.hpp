// SPDX-License-Identifier: Apache-2.0
// xtensor's n-dimensional containers as inputs and outputs. Containers, adaptors and views whose elements lie in
// row-major order without gaps are read where they are; others (transposed or strided views, column-major containers,
// expressions) are copied once.
//   session.run(image);                                // xt::xtensor<float, 4>
//   auto y = tn::as_xtensor(session.output(0));        // an adaptor of the workspace
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/interop/borrowed.hpp>
#include <tenon/session/input_reader.hpp>

#include <xtensor/xadapt.hpp>
#include <xtensor/xarray.hpp>
#include <xtensor/xtensor.hpp>
#include <xtensor/xview.hpp>

#include <concepts>
#include <cstdint>
#include <vector>

namespace tenon {

/// Whether elements follow one another, the last axis fastest. An axis of one element may have any stride.
template <class Shape, class Strides>
[[nodiscard]] bool is_row_major(const Shape& shape, const Strides& strides) {
  std::int64_t expected = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] != 1 && static_cast<std::int64_t>(strides[axis]) != expected) return false;
    expected *= static_cast<std::int64_t>(shape[axis]);
  }
  return true;
}

/// Elements are float or std::int32_t; at most eight dimensions. Throws `error{bad_argument}` for more.
template <class E>
  requires InputElement<typename E::value_type>
[[nodiscard]] Borrowed borrow(const xt::xexpression<E>& expression) {
  const E& x = expression.derived_cast();
  if (x.dimension() > static_cast<std::size_t>(max_rank))
    throw error(ErrorCode::bad_argument,
                concat("borrow: at most ", max_rank, " dimensions, got ", x.dimension()));
  const std::vector<std::int64_t> shape(x.shape().begin(), x.shape().end());
  if constexpr (xt::has_data_interface<E>::value && xt::has_strides<E>::value) {
    if (is_row_major(shape, x.strides()))
      return Borrowed::view(x.data() + static_cast<std::ptrdiff_t>(x.data_offset()), shape);
  }
  const xt::xarray<typename E::value_type, xt::layout_type::row_major> rows = x;
  return Borrowed::copy(rows.data(), shape);
}

/// So that `session.run(x)` reads it.
template <class T>
  requires std::derived_from<T, xt::xexpression<T>>
struct InputReader<T> {
  [[nodiscard]] static Borrowed read(const T& expression) { return borrow(expression); }
};

/// An adaptor of the view's elements in its shape; no copy. Throws `error{bad_argument}` for other elements than F32 or
/// gaps between them.
[[nodiscard]] inline auto as_xtensor(const TensorView& view) {
  if (view.dtype != DType::f32 || !view.is_contiguous())
    throw error(ErrorCode::bad_argument, concat("as_xtensor: expected contiguous F32, got ", view.text()));
  return xt::adapt(reinterpret_cast<const float*>(view.data), static_cast<std::size_t>(view.size()),
                   xt::no_ownership(), std::vector<std::size_t>(view.shape().begin(), view.shape().end()));
}

} // namespace tenon

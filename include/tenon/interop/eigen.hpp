// SPDX-License-Identifier: Apache-2.0
// Eigen's matrices as inputs and outputs. Row-major matrices, vectors, maps and blocks whose rows follow one another are
// read where they are; others (column-major ones, expressions) are copied once.
//   session.run(x);                                    // x [tokens, d]
//   auto y = tn::as_eigen(session.output(0));          // a Map [rows, d] of the workspace
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/interop/borrowed.hpp>
#include <tenon/session/input_reader.hpp>

#include <Eigen/Core>

#include <array>
#include <concepts>
#include <cstdint>

namespace tenon {

/// [rows, cols], or [size] for a vector. Elements are float or std::int32_t.
template <class Derived>
  requires InputElement<typename Derived::Scalar>
[[nodiscard]] Borrowed borrow(const Eigen::DenseBase<Derived>& matrix) {
  using Scalar = typename Derived::Scalar;
  const Derived& m = matrix.derived();
  const std::array<std::int64_t, 2> extents{m.rows(), m.cols()};
  const std::array<std::int64_t, 1> size{m.size()};
  constexpr bool is_vector = Derived::IsVectorAtCompileTime;
  const std::span<const std::int64_t> shape =
      is_vector ? std::span<const std::int64_t>(size) : std::span<const std::int64_t>(extents);
  if constexpr ((Derived::Flags & Eigen::DirectAccessBit) != 0) {
    const bool is_dense = is_vector ? m.innerStride() == 1
                                    : bool(Derived::IsRowMajor) && m.innerStride() == 1 &&
                                          (m.outerStride() == m.cols() || m.rows() == 1);
    if (is_dense) return Borrowed::view(m.data(), shape);
  }
  const Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows = m;
  return Borrowed::copy(rows.data(), shape);
}

/// So that `session.run(x)` reads it.
template <class T>
  requires std::derived_from<T, Eigen::DenseBase<T>>
struct InputReader<T> {
  [[nodiscard]] static Borrowed read(const T& matrix) { return borrow(matrix); }
};

using EigenRows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// All dimensions but the last as rows; no copy. Throws `error{bad_argument}` for other elements than F32 or gaps
/// between them.
[[nodiscard]] inline Eigen::Map<const EigenRows> as_eigen(const TensorView& view) {
  if (view.dtype != DType::f32 || !view.is_contiguous())
    throw error(ErrorCode::bad_argument, concat("as_eigen: expected contiguous F32, got ", view.text()));
  const std::int64_t width = view.rank == 0 ? 1 : view.extent(view.rank - 1);
  return {reinterpret_cast<const float*>(view.data), width == 0 ? 0 : view.size() / width, width};
}

} // namespace tenon

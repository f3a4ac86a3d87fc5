// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"

#include <tenon/interop/eigen.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Sequential<Linear<"up", 6, 10>, Gelu, Linear<"down", 10, 6>>;

EigenRows numbers(Eigen::Index rows, Eigen::Index cols) {
  EigenRows x(rows, cols);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i % 17) / 8.0f - 1.0f;
  return x;
}

/// Borrowed where it lies, or copied: what the numbers are is the same.
template <class Matrix>
void check(const Matrix& matrix, bool is_copied, std::vector<std::int64_t> shape) {
  const Borrowed borrowed = borrow(matrix);
  CHECK(borrowed.is_copy() == is_copied);
  const TensorView view = borrowed;
  CHECK(std::vector<std::int64_t>(view.shape().begin(), view.shape().end()) == shape);
  CHECK(view.is_contiguous());
  const EigenRows expected = matrix.template cast<float>();
  for (Eigen::Index i = 0; i < expected.size(); ++i) {
    const float got = view.dtype == DType::f32
                          ? reinterpret_cast<const float*>(view.data)[i]
                          : static_cast<float>(reinterpret_cast<const std::int32_t*>(view.data)[i]);
    CHECK(got == expected.data()[i]);
  }
}

} // namespace

TEST_CASE("Rows that follow one another are read where they are") {
  const EigenRows x = numbers(5, 6);
  check(x, false, {5, 6});
  check(x.topRows(3), false, {3, 6});
  check(x.row(2), false, {6});
  check(Eigen::Map<const EigenRows>(x.data(), 3, 10), false, {3, 10});
  check(Eigen::Matrix<float, 4, 6, Eigen::RowMajor>::Constant(0.5f).eval(), false, {4, 6});
  check(Eigen::VectorXf::LinSpaced(7, 0.0f, 1.0f).eval(), false, {7});
  check(Eigen::Matrix<std::int32_t, 1, 4>{{3, 1, 4, 1}}, false, {4});
  const TensorView view = borrow(x);
  CHECK(view.data == reinterpret_cast<const std::byte*>(x.data()));
}

TEST_CASE("Other layouts and expressions are copied once, in row-major order") {
  const EigenRows x = numbers(5, 6);
  const Eigen::MatrixXf columns = x;
  check(columns, true, {5, 6});
  check(x.leftCols(4), true, {5, 4});
  check(x.transpose(), true, {6, 5});
  check(x.col(2), true, {5});
  check(x + x, true, {5, 6});
}

TEST_CASE("A session reads an Eigen matrix as it reads a Tensor, and gives one") {
  const Fixture<Net> f;
  Session session(f.model);
  const EigenRows x = numbers(5, 6);
  const Tensor expected = session(Tensor({5, 6}, {x.data(), x.data() + x.size()}));
  const TensorView output = session.run(x);
  const auto y = as_eigen(output);
  CHECK(reinterpret_cast<const std::byte*>(y.data()) == output.data);
  CHECK((y.rows() == 5 && y.cols() == 6));
  CHECK(y == Eigen::Map<const EigenRows>(expected.values().data(), 5, 6));
  const Eigen::MatrixXf columns = x;
  CHECK(as_eigen(session.run(columns)) == Eigen::Map<const EigenRows>(expected.values().data(), 5, 6));
}

TEST_CASE("What is no row of floats is refused") {
  const std::vector<std::int32_t> ids{1, 2};
  const std::vector<std::int64_t> shape{2};
  CHECK_THROWS_WITH_AS((void)as_eigen(TensorView(ids.data(), DType::i32, shape)),
                       "as_eigen: expected contiguous F32, got [2] I32", error);
}

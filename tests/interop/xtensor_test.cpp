// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"

#include <tenon/interop/xtensor.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Sequential<Linear<"up", 6, 10>, Gelu, Linear<"down", 10, 6>>;

xt::xtensor<float, 3> numbers() {
  xt::xtensor<float, 3> x({2, 5, 6});
  for (std::size_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i % 17) / 8.0f - 1.0f;
  return x;
}

/// Borrowed where it lies, or copied: what the numbers are is the same.
template <class E>
void check(const E& expression, bool is_copied, std::vector<std::int64_t> shape) {
  const Borrowed borrowed = borrow(expression);
  CHECK(borrowed.is_copy() == is_copied);
  const TensorView view = borrowed;
  CHECK(std::vector<std::int64_t>(view.shape().begin(), view.shape().end()) == shape);
  CHECK(view.is_contiguous());
  const xt::xarray<float> expected = expression;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const float got = view.dtype == DType::f32
                          ? reinterpret_cast<const float*>(view.data)[i]
                          : static_cast<float>(reinterpret_cast<const std::int32_t*>(view.data)[i]);
    CHECK(got == expected.data()[i]);
  }
}

} // namespace

TEST_CASE("Elements in row-major order are read where they are") {
  const xt::xtensor<float, 3> x = numbers();
  check(x, false, {2, 5, 6});
  check(xt::xarray<float>(x), false, {2, 5, 6});
  check(xt::view(x, 1), false, {5, 6});
  check(xt::view(x, 0, xt::range(1, 4)), false, {3, 6});
  const std::vector<float> own(x.begin(), x.end());
  check(xt::adapt(own, std::vector<std::size_t>{10, 6}), false, {10, 6});
  check(xt::xtensor<std::int32_t, 2>{{3, 1, 4}, {1, 5, 9}}, false, {2, 3});
  const TensorView view = borrow(x);
  CHECK(view.data == reinterpret_cast<const std::byte*>(x.data()));
  const TensorView second = borrow(xt::view(x, 1));
  CHECK(second.data == reinterpret_cast<const std::byte*>(x.data() + 30));
}

TEST_CASE("Other layouts and expressions are copied once") {
  const xt::xtensor<float, 3> x = numbers();
  check(xt::xtensor<float, 3, xt::layout_type::column_major>(x), true, {2, 5, 6});
  check(xt::view(x, xt::all(), xt::all(), xt::range(0, 4)), true, {2, 5, 4});
  check(xt::view(x, xt::all(), xt::range(0, 5, 2)), true, {2, 3, 6});
  check(xt::transpose(x), true, {6, 5, 2});
  check(x + x, true, {2, 5, 6});
}

TEST_CASE("A session reads an xtensor container as it reads a Tensor, and gives one") {
  const Fixture<Net> f;
  Session session(f.model);
  const xt::xtensor<float, 3> x = numbers();
  const Tensor expected = session(Tensor({2, 5, 6}, {x.begin(), x.end()}));
  const TensorView output = session.run(x);
  const auto y = as_xtensor(output);
  CHECK(reinterpret_cast<const std::byte*>(y.data()) == output.data);
  CHECK(y.dimension() == 3);
  CHECK(std::equal(y.begin(), y.end(), expected.values().begin(), expected.values().end()));
  const Tensor doubled = session(x + x);
  const xt::xtensor<float, 3> twice = x + x;
  CHECK(doubled == session(twice));
}

TEST_CASE("What is no floats, or has too many dimensions, is refused") {
  const std::vector<std::int32_t> ids{1, 2};
  const std::vector<std::int64_t> shape{2};
  CHECK_THROWS_WITH_AS((void)as_xtensor(TensorView(ids.data(), DType::i32, shape)),
                       "as_xtensor: expected contiguous F32, got [2] I32", error);
  const xt::xarray<float> deep = xt::ones<float>(std::vector<std::size_t>(9, 1));
  CHECK_THROWS_WITH_AS((void)borrow(deep), "borrow: at most 8 dimensions, got 9", error);
}

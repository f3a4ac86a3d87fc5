// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/norm.hpp>

#include <support/allocation_probe.hpp>
#include <support/naive.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

constexpr double eps = 1e-12;

/// The largest error of y against the layer norm of `x`, in units of 2^-24 * (|normalised * gamma| + |beta|).
template <class Input>
double norm_error(const FloatMatrix& y, const Input& x, const StoredMatrix& gamma, const StoredMatrix& beta) {
  const auto cols = static_cast<double>(y.view.cols);
  Twin twin(y.view.rows, y.view.cols);
  for (std::int64_t i = 0; i < twin.rows; ++i) {
    double mean = 0;
    double variance = 0;
    for (std::int64_t j = 0; j < twin.cols; ++j) mean += x(i, j) / cols;
    for (std::int64_t j = 0; j < twin.cols; ++j) variance += (x(i, j) - mean) * (x(i, j) - mean) / cols;
    for (std::int64_t j = 0; j < twin.cols; ++j) {
      const double scaled = (x(i, j) - mean) / std::sqrt(variance + eps) * gamma(0, j);
      twin.add(i, j, scaled + beta(0, j), std::abs(scaled) + std::abs(beta(0, j)));
    }
  }
  return error_in_units(y.view, twin);
}

Twin exact_rms_norm(const FloatMatrix& x, const StoredMatrix* gamma, double of_eps) {
  Twin twin(x.view.rows, x.view.cols);
  for (std::int64_t i = 0; i < twin.rows; ++i) {
    double squares = 0;
    for (std::int64_t j = 0; j < twin.cols; ++j) squares += x(i, j) * x(i, j);
    for (std::int64_t j = 0; j < twin.cols; ++j) {
      const double y = x(i, j) / std::sqrt(squares / static_cast<double>(twin.cols) + of_eps) *
                       (gamma == nullptr ? 1.0 : (*gamma)(0, j));
      twin.add(i, j, y, std::abs(y));
    }
  }
  return twin;
}

} // namespace

TEST_CASE("A layer norm agrees with float64 for all widths and dtypes") {
  for (const DType type : weight_dtypes)
    for (const std::int64_t width : {2, 7, 64, 65, 384}) {
      const FloatMatrix x(3, width, 1, {.padding = 1});
      const StoredMatrix gamma(1, width, type, 2, {.shift = 1});
      const StoredMatrix beta(1, width, type, 3);
      FloatMatrix y(3, width, 4, {.padding = 2});
      layer_norm(x.view, gamma.vector(), beta.vector(), eps, y.view);
      INFO(dtype_name(type), " ", width);
      CHECK(norm_error(y, x, gamma, beta) <= 4); // three roundings to float; all sums are in double
      CHECK(y.padding_untouched());
    }
}

TEST_CASE("A large mean costs a layer norm no accuracy") {
  FloatMatrix x(2, 100, 1);
  for (std::int64_t i = 0; i < 2; ++i)
    for (float& v : x.view.row_span(i)) v = 1000.0f + v;
  const StoredMatrix gamma(1, 100, DType::f32, 2);
  const StoredMatrix beta(1, 100, DType::f32, 3);
  FloatMatrix y(2, 100, 4);
  layer_norm(x.view, gamma.vector(), beta.vector(), eps, y.view);
  CHECK(norm_error(y, x, gamma, beta) <= 4);
}

TEST_CASE("A layer norm without weights only normalises") {
  const FloatMatrix x(1, 50, 1);
  FloatMatrix y(1, 50, 2);
  layer_norm(x.view, {}, {}, eps, y.view);
  double sum = 0;
  double squares = 0;
  for (std::int64_t j = 0; j < 50; ++j) {
    sum += y(0, j);
    squares += y(0, j) * y(0, j);
  }
  CHECK(std::abs(sum) <= 50 * float_unit * 2);
  CHECK(std::abs(squares / 50 - 1) <= 4 * float_unit);
}

TEST_CASE("The norm of a sum is the norm of its rounded sum") {
  const FloatMatrix a(5, 130, 1, {.padding = 2});
  const FloatMatrix b(5, 130, 2);
  const StoredMatrix gamma(1, 130, DType::bf16, 3);
  const StoredMatrix beta(1, 130, DType::bf16, 4);
  FloatMatrix y(5, 130, 5);
  add_layer_norm(a.view, b.view, gamma.vector(), beta.vector(), eps, y.view);
  const auto sum = [&](std::int64_t i, std::int64_t j) {
    return static_cast<double>(a.view.row(i)[j] + b.view.row(i)[j]);
  };
  CHECK(norm_error(y, sum, gamma, beta) <= 4);

  FloatMatrix in_place(5, 130, 1);
  add_layer_norm(in_place.view, b.view, gamma.vector(), beta.vector(), eps, in_place.view);
  CHECK(same_bits(in_place.view, y.view));
}

TEST_CASE("A root mean square norm agrees with float64 for all widths and dtypes") {
  for (const DType type : weight_dtypes)
    for (const std::int64_t width : {1, 2, 7, 63, 64, 65, 384})
      for (const double of_eps : {1e-6, 0.5}) {
        const FloatMatrix x(3, width, 1, {.padding = 1});
        const StoredMatrix gamma(1, width, type, 2, {.shift = 1});
        FloatMatrix y(3, width, 4, {.padding = 2});
        rms_norm(x.view, gamma.vector(), of_eps, y.view);
        INFO(dtype_name(type), " ", width, " ", of_eps);
        CHECK(error_in_units(y.view, exact_rms_norm(x, &gamma, of_eps)) <= 2.01); // two roundings to float
        CHECK(y.padding_untouched());
      }
}

TEST_CASE("A root mean square norm without weights only divides, and a zero row stays zero") {
  FloatMatrix x(3, 77, 1);
  std::fill_n(x.view.row(1), 77, 0.0f);
  FloatMatrix y(3, 77, 2);
  rms_norm(x.view, {}, 1e-6, y.view);
  CHECK(error_in_units(y.view, exact_rms_norm(x, nullptr, 1e-6)) <= 1.01);
  for (const float v : y.view.row_span(1)) CHECK(v == 0.0f);
}

TEST_CASE("A NaN stays in its row of a root mean square norm, and large numbers do not overflow") {
  for (const std::int64_t place :
       {std::int64_t{0}, std::int64_t{64}, std::int64_t{69}}) { // the last of a block
    FloatMatrix x(3, 70, 1);
    x.view.row(1)[place] = std::numeric_limits<float>::quiet_NaN();
    const StoredMatrix gamma(1, 70, DType::f16, 3);
    FloatMatrix y(3, 70, 2);
    rms_norm(x.view, gamma.vector(), 1e-6, y.view);
    CAPTURE(place);
    CHECK(std::ranges::all_of(y.view.row_span(1), [](float v) { return std::isnan(v); }));
    for (const std::int64_t row : {0, 2})
      CHECK(std::ranges::none_of(y.view.row_span(row), [](float v) { return std::isnan(v); }));
  }
  FloatMatrix x(1, 70, 1);
  std::fill_n(x.view.data, 70, 1e30f); // its square is no float
  rms_norm(x.view, {}, 1e-6, x.view);
  for (const float v : x.view.row_span(0)) CHECK(v == 1.0f);
}

TEST_CASE("Normalised rows have length one and a zero row stays zero") {
  const FloatMatrix x(3, 77, 1);
  FloatMatrix y(3, 77, 2);
  l2_normalize(x.view, y.view);
  Twin twin(3, 77);
  for (std::int64_t i = 0; i < 3; ++i) {
    double squares = 0;
    for (std::int64_t j = 0; j < 77; ++j) squares += x(i, j) * x(i, j);
    for (std::int64_t j = 0; j < 77; ++j)
      twin.add(i, j, x(i, j) / std::sqrt(squares), std::abs(x(i, j) / std::sqrt(squares)));
  }
  CHECK(error_in_units(y.view, twin) <= 1.01); // one rounding

  FloatMatrix zero(1, 5, 1);
  std::fill_n(zero.view.data, 5, 0.0f);
  l2_normalize(zero.view, zero.view);
  CHECK(zero.view.data[4] == 0.0f);
  zero.view.data[0] = 1e-20f; // shorter than eps: divided by eps
  l2_normalize(zero.view, zero.view);
  CHECK(zero.view.data[0] == doctest::Approx(1e-8));
}

TEST_CASE("The bits of a norm do not depend on addresses and nothing is allocated") {
  for (const DType type : weight_dtypes) {
    const FloatMatrix x(4, 101, 1);
    FloatMatrix y(4, 101, 2);
    FloatMatrix z(4, 101, 2);
    FloatMatrix rms(4, 101, 2);
    const StoredMatrix gamma(1, 101, type, 3);
    const StoredMatrix moved(1, 101, type, 3, {.shift = 3});
    FloatMatrix shifted(4, 101, 1, {.shift = 4, .padding = 1});
    FloatMatrix shifted_z(4, 101, 2, {.shift = 12});
    FloatMatrix shifted_rms(4, 101, 1, {.shift = 8, .padding = 3});
    const AllocationProbe probe;
    layer_norm(x.view, gamma.vector(), gamma.vector(), eps, y.view);
    l2_normalize(x.view, z.view);
    rms_norm(x.view, gamma.vector(), eps, rms.view);
    rms_norm(shifted_rms.view, moved.vector(), eps, shifted_rms.view);
    l2_normalize(shifted.view, shifted_z.view);
    layer_norm(shifted.view, moved.vector(), moved.vector(), eps, shifted.view);
    const auto taken = probe.count();
    CHECK(taken == 0);
    CHECK(same_bits(y.view, shifted.view));
    CHECK(same_bits(z.view, shifted_z.view));
    CHECK(same_bits(rms.view, shifted_rms.view));
  }
}

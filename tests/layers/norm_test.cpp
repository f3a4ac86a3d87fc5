// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

/// Layer norm of one row of four, in double.
std::vector<double> normalized(std::vector<double> x, double eps, const std::vector<double>& weight,
                               const std::vector<double>& bias) {
  double mean = 0;
  double variance = 0;
  for (const double v : x) mean += v / 4;
  for (const double v : x) variance += (v - mean) * (v - mean) / 4;
  for (std::size_t i = 0; i < 4; ++i) x[i] = (x[i] - mean) / std::sqrt(variance + eps) * weight[i] + bias[i];
  return x;
}

void check_rows(const Tensor& y, const auto& expected_row) {
  for (std::int64_t r = 0; r < y.size() / 4; ++r) {
    const std::vector<double> expected = expected_row(static_cast<std::size_t>(r));
    for (std::size_t i = 0; i < 4; ++i)
      CHECK(static_cast<double>(y.row(r)[i]) == doctest::Approx(expected[i]).epsilon(few_ulps));
  }
}

std::vector<double> row_of(const Tensor& x, std::size_t r) {
  const std::span<const float> row = x.row(static_cast<std::int64_t>(r));
  return {row.begin(), row.end()};
}

} // namespace

TEST_CASE("LayerNorm normalises rows with its own epsilon") {
  OneLayer<LayerNorm<"norm", 4, Epsilon{0.5f}>> layer;
  const Tensor x = wave({3, 4});
  check_rows(layer.session(x),
             [&](std::size_t r) { return normalized(row_of(x, r), 0.5, layer.weight(0), layer.weight(1)); });
}

TEST_CASE("AddNorm normalises the sum of its inputs") {
  using Net = Graph<Inputs<"a", "b">, Let<"y", AddNorm<"norm", 4>, "a", "b">, Outputs<"y">>;
  OneLayer<Net> layer;
  const Tensor a = wave({2, 4});
  Tensor b({2, 4});
  for (std::size_t i = 0; i < 8; ++i) b.values()[i] = static_cast<float>(i) * 0.25f;
  check_rows(layer.session(a, b), [&](std::size_t r) {
    std::vector<double> sum = row_of(a, r);
    for (std::size_t i = 0; i < 4; ++i) sum[i] += row_of(b, r)[i];
    return normalized(sum, 1e-12, layer.weight(0), layer.weight(1));
  });
}

TEST_CASE("RmsNorm divides rows by the root of their mean square, with its own epsilon") {
  using Net = RmsNorm<"norm", 4, Epsilon{0.5f}>;
  static_assert(weight_count<Net> == 1 && weights<Net>[0].path == "norm.weight");
  for (const DType dtype : {f32, f16, bf16}) {
    OneLayer<Net> layer(dtype);
    const Tensor x = wave({2, 3, 4});
    const std::vector<double> weight = layer.weight(0);
    check_rows(layer.session(x), [&](std::size_t r) {
      std::vector<double> row = row_of(x, r);
      double squares = 0;
      for (const double v : row) squares += v * v;
      for (std::size_t i = 0; i < 4; ++i) row[i] = row[i] / std::sqrt(squares / 4 + 0.5) * weight[i];
      return row;
    });
  }
}

TEST_CASE("L2Normalize gives rows of length one and leaves zeros") {
  OneLayer<Sequential<Linear<"fc", 4, 4, NoBias>, L2Normalize>> layer;
  const Tensor y = layer.session(wave({3, 4}));
  for (std::int64_t r = 0; r < 3; ++r) {
    double length = 0;
    for (const double v : row_of(y, static_cast<std::size_t>(r))) length += v * v;
    CHECK(length == doctest::Approx(1.0).epsilon(few_ulps));
  }
  const Tensor zeros = layer.session(Tensor({1, 4}));
  for (const float v : zeros.values()) CHECK(v == 0.0f);
}

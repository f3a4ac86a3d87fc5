// SPDX-License-Identifier: Apache-2.0
#include "support/lora_pairs.hpp"

#include <tenon/adapters/to_lora.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

using namespace tenon;
using namespace tenon::test;

// Doubles throughout: a decomposition of a few hundred operations an element is right to some hundred units of
// 2^-53, that is 1e-13 of the largest singular value. 1e-12 leaves room for other machines.
constexpr double double_tolerance = 1e-12;

namespace {

DoubleMatrix random_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Numbers numbers(seed);
  DoubleMatrix out(rows, cols);
  for (double& x : out.values) x = static_cast<double>(numbers.next());
  return out;
}

/// U diag(sigma) V^T of the first k.
DoubleMatrix rebuilt(const Svd& svd) {
  DoubleMatrix out(svd.u.rows, svd.v.rows);
  for (std::int64_t i = 0; i < out.rows; ++i)
    for (std::size_t k = 0; k < svd.sigma.size(); ++k)
      for (std::int64_t j = 0; j < out.cols; ++j)
        out.row(i)[j] +=
            svd.u(i, static_cast<std::int64_t>(k)) * svd.sigma[k] * svd.v(j, static_cast<std::int64_t>(k));
  return out;
}

double distance(const DoubleMatrix& a, const DoubleMatrix& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i)
    sum += (a.values[i] - b.values[i]) * (a.values[i] - b.values[i]);
  return std::sqrt(sum);
}

void check_orthonormal(const DoubleMatrix& m) {
  for (std::int64_t a = 0; a < m.cols; ++a)
    for (std::int64_t b = 0; b < m.cols; ++b) {
      double dot = 0;
      for (std::int64_t i = 0; i < m.rows; ++i) dot += m(i, a) * m(i, b);
      CHECK(std::abs(dot - (a == b ? 1 : 0)) < double_tolerance);
    }
}

/// A matrix with these singular values.
DoubleMatrix with_values(std::int64_t rows, std::int64_t cols, const std::vector<double>& sigma,
                         std::uint64_t seed) {
  Svd svd = exact_svd(random_matrix(rows, cols, seed));
  std::fill(svd.sigma.begin(), svd.sigma.end(), 0.0);
  std::copy(sigma.begin(), sigma.end(), svd.sigma.begin());
  return rebuilt(svd);
}

struct MatrixRows {
  const DoubleMatrix& m;
  void operator()(std::int64_t first, std::int64_t count, float* out) const {
    for (std::int64_t i = 0; i < count * m.cols; ++i)
      out[i] = static_cast<float>(m.values[static_cast<std::size_t>(first * m.cols + i)]);
  }
};

} // namespace

TEST_CASE("The decomposition of a product needs the factors alone") {
  struct Case {
    std::int64_t rows, rank, cols;
  };
  for (const auto& [rows, rank, cols] :
       {Case{30, 4, 20}, Case{7, 7, 9}, Case{5, 8, 11}, Case{1, 1, 1}, Case{64, 20, 3}}) {
    CAPTURE(rows);
    const DoubleMatrix b = random_matrix(rows, rank, 1);
    const DoubleMatrix a = random_matrix(rank, cols, 2);
    DoubleMatrix product(rows, cols);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t k = 0; k < rank; ++k)
        for (std::int64_t j = 0; j < cols; ++j) product.row(i)[j] += b(i, k) * a(k, j);
    const Svd svd = svd_of_product(b, a);
    CHECK(std::ssize(svd.sigma) == std::min({rows, rank, cols}));
    CHECK(std::is_sorted(svd.sigma.rbegin(), svd.sigma.rend()));
    check_orthonormal(svd.u);
    check_orthonormal(svd.v);
    CHECK(distance(rebuilt(svd), product) < double_tolerance * svd.sigma[0]);
    const Svd dense = exact_svd(product);
    for (std::size_t k = 0; k < svd.sigma.size(); ++k)
      CHECK(std::abs(svd.sigma[k] - dense.sigma[k]) < double_tolerance * svd.sigma[0]);
    CHECK(product_norm(b, a) == doctest::Approx(std::sqrt(dense.energy)).epsilon(double_tolerance));
  }
}

TEST_CASE("A product of zeros decomposes into zeros") {
  const Svd svd = svd_of_product(DoubleMatrix(20, 17), DoubleMatrix(17, 30));
  CHECK(svd.energy == 0);
  CHECK(svd.sigma == std::vector<double>(17));
}

TEST_CASE("The random projection finds the largest singular values and keeps to its seed") {
  std::vector<double> sigma;
  for (int k = 0; k < 60; ++k) sigma.push_back(std::pow(0.7, k)); // the 21st is 8e-4 of the first
  const DoubleMatrix m = with_values(150, 90, sigma, 3);
  const MatrixRows rows{m};
  const RowSource source = row_source(m.rows, m.cols, rows);
  const Svd svd = randomised_svd(source, {.rank = 20});
  check_orthonormal(svd.u);
  check_orthonormal(svd.v);
  // Rows come as floats: 2^-24 of each element, some 6e-8 of the norm, is what any value may be off.
  for (std::size_t k = 0; k < 20; ++k) CHECK(std::abs(svd.sigma[k] - sigma[k]) < 1e-6);
  double rest = 0;
  for (std::size_t k = 20; k < 60; ++k) rest += sigma[k] * sigma[k];
  CHECK(distance(rebuilt(svd), m) <
        1.0001 * std::sqrt(rest)); // Eckart, Young: no rank 20 is nearer than the root
  CHECK(randomised_svd(source, {.rank = 20}).u.values == svd.u.values);
  CHECK(randomised_svd(source, {.rank = 20, .seed = 1}).u.values != svd.u.values);
}

TEST_CASE("A sample as wide as the matrix is exact") {
  const DoubleMatrix m = random_matrix(12, 30, 5);
  const MatrixRows rows{m};
  const Svd svd = randomised_svd(row_source(12, 30, rows), {.rank = 12, .power_iterations = 0});
  CHECK(distance(rebuilt(svd), m) < 1e-6 * svd.sigma[0]); // rows as floats
}

TEST_CASE("Ranks are chosen by number, by energy and by norm, and say what they keep") {
  const std::vector<double> sigma{4, 2, 2, 1, 0}; // squares 16, 4, 4, 1: 25
  const auto rank = [&](const RankRule& rule) { return choose_rank(sigma, 25, rule).rank; };
  CHECK(rank({.most = 3}) == 3);
  CHECK(rank({.most = 9}) == 5);
  CHECK(rank({.most = 9, .energy = 0.64}) == 1);
  CHECK(rank({.most = 9, .energy = 0.65}) == 2);
  CHECK(rank({.most = 9, .energy = 0.9999}) == 4); // the zero is not kept
  CHECK(rank({.most = 2, .energy = 0.9999}) == 2);
  CHECK(rank({.most = 9, .frobenius = 0.8}) == 1); // 4 / 5
  CHECK(rank({.most = 9, .frobenius = 0.81}) == 2);
  CHECK(rank({.most = 9, .energy = 0.5, .frobenius = 0.81}) == 2);
  const KeptRank kept = choose_rank(sigma, 25, {.most = 2});
  CHECK(kept.energy == doctest::Approx(0.8));
  CHECK(kept.frobenius == doctest::Approx(std::sqrt(0.8)));
  CHECK(choose_rank(std::vector<double>(3), 0, {.most = 2, .energy = 0.9}).rank == 1);
  CHECK_THROWS_WITH_AS((void)rank({.most = 0}), "rank: expected at least 1, got 0", error);
  CHECK_THROWS_WITH_AS((void)rank({.energy = 0}),
                       "energy to keep: expected a share above 0 and up to 1, got 0.000000", error);
  CHECK_THROWS_WITH_AS((void)rank({.frobenius = 1.5}),
                       "norm to keep: expected a share above 0 and up to 1, got 1.500000", error);
}

TEST_CASE("A delta becomes the nearest pair of its rank, and the error stated is the pair's own") {
  std::vector<double> sigma;
  for (int k = 0; k < 30; ++k) sigma.push_back(std::pow(0.8, k));
  const DoubleMatrix m = with_values(70, 50, sigma, 7);
  const MatrixRows rows{m};
  const RowSource source = row_source(m.rows, m.cols, rows);
  double all = 0;
  double rest = 0;
  for (std::size_t k = 0; k < 30; ++k) {
    all += sigma[k] * sigma[k];
    if (k >= 8) rest += sigma[k] * sigma[k];
  }
  for (const SvdMethod method : {SvdMethod::exact, SvdMethod::randomised})
    for (const DType dtype : {DType::f32, DType::bf16}) {
      Ledger ledger;
      const ToLoraOptions options{.rank = {.most = 8}, .method = method, .dtype = dtype, .ledger = &ledger};
      const MadeLora made = to_lora(source, options);
      CHECK(made.pair.rank == 8);
      CHECK(made.pair.scale == 1);
      CHECK(made.kept.energy == doctest::Approx(1 - rest / all).epsilon(1e-4));
      CHECK(made.error == doctest::Approx(distance(delta_of(made.pair), m) / std::sqrt(all)).epsilon(1e-5));
      // bf16 rounds each factor to 2^-9 of it, which is what the bound is widened by
      CHECK(made.error <= std::sqrt(rest / all) * 1.001 + (dtype == DType::bf16 ? 0x1p-8 : 0));
      CHECK(ledger.current().total() == 0);
      CHECK(ledger.peak_total() == to_lora_bytes(options, 70, 50));
    }
}

TEST_CASE("A delta of zeros becomes a pair of zeros without error") {
  const DoubleMatrix m(20, 600);
  const MatrixRows rows{m};
  for (const SvdMethod method : {SvdMethod::exact, SvdMethod::randomised}) {
    const MadeLora made = to_lora(row_source(20, 600, rows), {.rank = {.most = 4}, .method = method});
    CHECK(made.error == 0);
    for (const float x : made.pair.b) CHECK(x == 0);
  }
}

TEST_CASE("Values that are not finite are refused, whichever way is taken") {
  DoubleMatrix m(6, 5);
  m.values[7] = std::numeric_limits<double>::quiet_NaN();
  const MatrixRows rows{m};
  const RowSource source = row_source(6, 5, rows);
  CHECK_THROWS_WITH_AS((void)to_lora(source, {.rank = {.most = 2}, .method = SvdMethod::exact}),
                       "singular values: expected finite numbers, got NaN or infinity among the factors",
                       error);
  CHECK_THROWS_WITH_AS((void)to_lora(source, {.rank = {.most = 2}, .method = SvdMethod::randomised}),
                       "singular values: expected finite numbers, got NaN or infinity among the rows", error);
  CHECK_THROWS_AS((void)svd_of_product(m, DoubleMatrix(5, 3)), error);
}

TEST_CASE("A clamp cuts both factors at the quantile of all their values") {
  std::vector<float> b{1, -2, 3, 4};
  std::vector<float> a{-9, 5, 6};
  clamp_factors(b, a, 0.75); // of -9 -2 1 3 4 5 6: place 4.5, between 4 and 5
  CHECK(b == std::vector<float>{1, -2, 3, 4});
  CHECK(a == std::vector<float>{-4.5, 4.5, 4.5});
}

TEST_CASE("A budget refuses a decomposition before it begins") {
  Ledger ledger;
  ledger.set_budget(1000);
  const DoubleMatrix m(40, 40);
  const MatrixRows rows{m};
  CHECK_THROWS_AS((void)to_lora(row_source(40, 40, rows), {.ledger = &ledger}), budget_error);
  CHECK(ledger.current().total() == 0);
}

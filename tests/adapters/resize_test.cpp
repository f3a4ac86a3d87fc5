// SPDX-License-Identifier: Apache-2.0
#include "support/lora_pairs.hpp"

#include <tenon/adapters/resize.hpp>

#include <doctest/doctest.h>

#include <cmath>

using namespace tenon;
using namespace tenon::test;

namespace {

double norm(const DoubleMatrix& m) {
  double sum = 0;
  for (const double x : m.values) sum += x * x;
  return std::sqrt(sum);
}

double relative_norm(const LoraPair& exact, const LoraPair& approximate) {
  DoubleMatrix difference = delta_of(exact);
  const DoubleMatrix other = delta_of(approximate);
  for (std::size_t i = 0; i < other.values.size(); ++i) difference.values[i] -= other.values[i];
  return norm(difference) / norm(delta_of(exact));
}

} // namespace

TEST_CASE("A pair at its own rank keeps its delta, and says so") {
  const LoraPair pair = random_pair(40, 30, 8, 0.25, 1, true);
  const MadeLora made = resize(pair, {.rank = {.most = 8}});
  CHECK(made.pair.scale == 0.25);
  CHECK(made.pair.bias == pair.bias);
  CHECK(made.kept.energy == 1);
  CHECK(made.error < 1e-7); // float factors: some 2^-24
  CHECK(relative_norm(pair, made.pair) < 1e-7);
}

TEST_CASE("A smaller rank is the best one, and the error stated is the one there is") {
  const LoraPair pair = random_pair(40, 30, 8, 0.25, 1);
  const Svd svd = svd_of_product(DoubleMatrix(pair.b_view()), DoubleMatrix(pair.a_view()));
  for (std::int64_t rank = 1; rank < 8; ++rank) {
    double rest = 0;
    for (std::size_t k = static_cast<std::size_t>(rank); k < 8; ++k) rest += svd.sigma[k] * svd.sigma[k];
    const MadeLora made = resize(pair, {.rank = {.most = rank}});
    CHECK(made.pair.rank == rank);
    CHECK(made.error == doctest::Approx(std::sqrt(rest / svd.energy)).epsilon(1e-6));
    CHECK(made.error == doctest::Approx(relative_norm(pair, made.pair)).epsilon(1e-6));
    CHECK(made.kept.energy == doctest::Approx(1 - rest / svd.energy));
  }
}

TEST_CASE("A share of the energy or of the norm chooses the rank") {
  const LoraPair pair = random_pair(40, 30, 8, 0.25, 1);
  const MadeLora by_energy = resize(pair, {.rank = {.most = 8, .energy = 0.7}});
  CHECK(by_energy.kept.rank < 8);
  CHECK(by_energy.kept.energy >= 0.7);
  CHECK(resize(pair, {.rank = {.most = by_energy.kept.rank - 1}}).kept.energy < 0.7);
  CHECK(by_energy.error <= std::sqrt(1 - 0.7) * 1.0001);
  const MadeLora by_norm = resize(pair, {.rank = {.most = 8, .frobenius = std::sqrt(0.7)}});
  CHECK(by_norm.kept.rank == by_energy.kept.rank);
}

TEST_CASE("A larger rank is filled up with zeros") {
  const LoraPair pair = random_pair(5, 30, 3, 2, 1);
  const MadeLora made = resize(pair, {.rank = {.most = 12}});
  CHECK(made.pair.rank == 12);
  CHECK(made.pair.a.size() == 12 * 30);
  CHECK(made.pair.b.size() == 5 * 12);
  CHECK(made.error < 1e-7);
  CHECK(made.kept.rank == 12);
}

TEST_CASE("Factors in 16 bits count in the error") {
  const LoraPair pair = random_pair(40, 30, 8, 0.25, 1);
  const MadeLora made = resize(pair, {.rank = {.most = 8}, .dtype = DType::bf16});
  CHECK(made.error > 1e-4);
  CHECK(made.error < 0x1p-7); // two factors, each rounded to 2^-9 of itself
  CHECK(made.error == doctest::Approx(relative_norm(pair, made.pair)).epsilon(1e-6));
}

TEST_CASE("A pair of zeros stays one") {
  LoraPair pair = random_pair(6, 7, 3, 1, 1);
  std::fill(pair.b.begin(), pair.b.end(), 0.0f);
  const MadeLora made = resize(pair, {.rank = {.most = 2}});
  CHECK(made.error == 0);
  CHECK(made.kept.energy == 1);
  for (const float x : made.pair.b) CHECK(x == 0);
}

TEST_CASE("Parts of the wrong size are refused") {
  LoraPair pair = random_pair(6, 7, 3, 1, 1);
  pair.b.pop_back();
  CHECK_THROWS_WITH_AS((void)resize(pair, {}), "resize: expected 6 x 3 values of B [out, rank], got 17",
                       shape_error);
}

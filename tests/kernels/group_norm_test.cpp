// SPDX-License-Identifier: Apache-2.0
#include "support/naive.hpp"
#include "support/team.hpp"

#include <tenon/kernels/group_norm.hpp>

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

constexpr double eps = 1e-5;

/// The largest error of an image's group norm with a mean of `offset`, in units of the last place of each value.
double group_norm_error(std::int64_t batch, std::int64_t positions, std::int64_t channels,
                        std::int64_t groups, DType type, float offset) {
  FloatMatrix x(batch * positions, channels, 1, {.padding = 2});
  for (std::int64_t i = 0; i < x.view.rows; ++i)
    for (float& value : x.view.row_span(i)) value += offset;
  FloatMatrix y(batch * positions, channels, 2, {.padding = 1});
  const StoredMatrix gamma(1, channels, type, 3);
  const StoredMatrix beta(1, channels, type, 4);
  const ExactScratch scratch(group_norm_scratch_bytes(channels));
  group_norm(x.view, batch, gamma.vector(), beta.vector(), groups, eps, y.view, scratch.scratch());
  CHECK(scratch.guard_untouched());
  CHECK(y.padding_untouched());
  Twin twin(x.view.rows, channels);
  const std::int64_t size = channels / groups;
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t g = 0; g < groups; ++g) {
      const auto each = [&](auto f) {
        for (std::int64_t i = b * positions; i < (b + 1) * positions; ++i)
          for (std::int64_t c = g * size; c < (g + 1) * size; ++c) f(i, c);
      };
      const auto n = static_cast<double>(positions * size);
      double mean = 0;
      double variance = 0;
      each([&](std::int64_t i, std::int64_t c) { mean += x(i, c) / n; });
      each([&](std::int64_t i, std::int64_t c) { variance += (x(i, c) - mean) * (x(i, c) - mean) / n; });
      each([&](std::int64_t i, std::int64_t c) {
        const double normal = (x(i, c) - mean) / std::sqrt(variance + eps) * gamma(0, c);
        twin.add(i, c, normal + beta(0, c), std::abs(normal) + std::abs(beta(0, c)));
      });
    }
  return error_in_units(y.view, twin);
}

} // namespace

TEST_CASE("Group norm is within a few roundings of the exact one for every weight type, near any mean") {
  for (const DType type : weight_dtypes)
    for (const float offset : {0.0f, 1000.0f}) {
      CHECK(group_norm_error(1, 1, 6, 2, type, offset) <= 4);
      CHECK(group_norm_error(2, 37, 12, 4, type, offset) <= 4);
      CHECK(group_norm_error(3, 64, 33, 3, type, offset) <= 4);
      CHECK(group_norm_error(2, 5, 70, 1, type, offset) <= 4);
      CHECK(group_norm_error(1, 50, 64, 64, type, offset) <= 4);
    }
}

TEST_CASE("Group norm without weights normalises, and may write over its input") {
  FloatMatrix x(40, 8, 1);
  FloatMatrix y(40, 8, 2);
  const ExactScratch scratch(group_norm_scratch_bytes(8));
  group_norm(x.view, 2, {}, {}, 2, eps, y.view, scratch.scratch());
  double sum = 0;
  double squares = 0;
  for (std::int64_t i = 0; i < 20; ++i)
    for (std::int64_t c = 0; c < 4; ++c) {
      sum += y(i, c);
      squares += y(i, c) * y(i, c);
    }
  CHECK(std::abs(sum) < 1e-4);
  CHECK(squares == doctest::Approx(80).epsilon(1e-4));
  group_norm(x.view, 2, {}, {}, 2, eps, x.view, scratch.scratch());
  CHECK(same_bits(x.view, y.view));
}

TEST_CASE("Group norm has the same bits with any number of threads") {
  const FloatMatrix x(2 * 900, 96, 1);
  const StoredMatrix gamma(1, 96, DType::bf16, 3);
  FloatMatrix alone(2 * 900, 96, 2);
  Team one(1);
  group_norm(x.view, 2, gamma.vector(), gamma.vector(), 32, eps, alone.view, one.workers);
  for (const int threads : {2, 3, 5}) {
    Team team(threads);
    FloatMatrix together(2 * 900, 96, 3);
    group_norm(x.view, 2, gamma.vector(), gamma.vector(), 32, eps, together.view, team.workers);
    CHECK(same_bits(alone.view, together.view));
  }
}

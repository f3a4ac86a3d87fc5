// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <support/linear_case.hpp>
#include <support/random_cases.hpp>

#include <cstdint>
#include <cstring>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("A Linear on a device is the host's for each dtype, with a bias and without") {
  for (const DType dtype : weight_dtypes)
    for (const std::int64_t rows : {1, 9, 33})
      for (const bool has_bias : {false, true}) {
        INFO(dtype_name(dtype), " ", rows, " ", has_bias);
        LinearCase c(rows, 37, 45, dtype);
        if (has_bias) c.bias.emplace(1, 37, dtype, 4);
        c.check(false);
        c.check();
      }
}

TEST_CASE("A Linear on a device takes an overlay for its weight") {
  LinearCase c(5, 8, 6, f32);
  const StoredMatrix overlay(8, 6, f32, 77);
  c.slot.weight = tensor(overlay.view);
  c.slot.is_pristine = false;
  const FloatMatrix with = c.on_device();
  CHECK(error_in_units(with.view, c.around(c.on_host(), true)) <= 2.0 * (6 + 8));
  if (!rounds_to_weights()) CHECK(same_bits(with.view, c.on_host().view));
  CHECK_FALSE(same_bits(with.view, c.on_device(false).view));
  LinearCase instead(5, 8, 6, f32);
  std::memcpy(instead.w.bytes.data(), overlay.bytes.data(), 8 * 6 * 4);
  CHECK(same_bits(with.view, instead.on_device(false).view));
}

TEST_CASE("Side terms on a device, with windows and gains and scales in memory, are the host's") {
  for (std::uint64_t number = 0; number < 60; ++number) {
    RandomCase random(number);
    const std::int64_t out = random.size(90, {1, 16, 64});
    INFO(number, " ", out);
    LinearCase c(random.size(40, {1, 8}), out, random.size(70, {1, 32}), random.dtype());
    if (random.below(2) == 0) c.bias.emplace(1, out, random.dtype(), 4);
    for (std::int64_t t = random.size(5, {1}); t > 0; --t) {
      const std::int64_t first = random.below(2) == 0 ? 0 : random.below(out);
      const std::int64_t rows = random.below(2) == 0 ? out - first : 1 + random.below(out - first);
      kernels::LowRankTerm& term =
          c.add_term(first, rows, random.size(60, {1, 4, 16}), random.dtype(), random.factor());
      if (random.below(3) == 0) term.row_gain = c.gain(rows);
      if (random.below(3) == 0) term.rank_gain = c.gain(term.a.rows);
    }
    c.check();
  }
}

TEST_CASE("A rank of 600 and 5,000 rows with gains on a device are the host's") {
  LinearCase c(3, 5000, 20, bf16);
  kernels::LowRankTerm& term = c.add_term(2, 4990, 600, bf16, 0.5f);
  c.check();
  term.row_gain = c.gain(4990);
  term.rank_gain = c.gain(600);
  c.check();
}

TEST_CASE("A scale in memory takes the place of a term's own") {
  LinearCase c(4, 12, 9, f32);
  kernels::LowRankTerm& term = c.add_term(0, 12, 3, f16, 0.25f);
  const FloatMatrix expected = c.on_device();
  c.scale_in_memory = 0.25f;
  term.scale_at = &c.scale_in_memory;
  term.scale = 1e9f;
  CHECK(same_bits(c.on_device().view, expected.view));
  c.scale_in_memory = 0.5f;
  CHECK_FALSE(same_bits(c.on_device().view, expected.view));
}

TEST_CASE("Changes of a bias on a device are the host's, with a bias of its own and without") {
  for (const DType dtype : weight_dtypes)
    for (const bool has_bias : {false, true}) {
      INFO(dtype_name(dtype), " ", has_bias);
      LinearCase c(7, 37, 20, f32);
      if (has_bias) c.bias.emplace(1, 37, dtype, 4);
      c.add_bias(kernels::BiasAction::add, 0, 37, dtype);
      c.add_bias(kernels::BiasAction::replace, 5, 20, f32);
      c.check();
      if (has_bias) c.add_bias(kernels::BiasAction::scale_by, 30, 7, dtype);
      c.add_bias(kernels::BiasAction::grow_by, 3, 11, dtype);
      c.add_term(0, 37, 4, bf16, 0.5f);
      c.check();
    }
}

TEST_CASE("A factor of a type that no device computes with is named") {
  LinearCase c(2, 3, 4, f32);
  c.add_term(0, 3, 2, f32, 1.0f);
  c.add_bias(kernels::BiasAction::add, 0, 3, f32);
  c.biases.back().term.values.dtype = DType::f8_e5m2;
  CHECK_THROWS_WITH_AS(static_cast<void>(c.on_device()),
                       "on a device: expected F32, F16 or BF16, got F8_E5M2", error);
}

// SPDX-License-Identifier: Apache-2.0
// What the tests of merges share: a merge into a vector, its error against float64, and whether two merges are
// the same up to a rounding.
#pragma once

#include <tenon/kernels/merge.hpp>
#include <tenon/weights/convert.hpp>

#include <support/naive.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace tenon::test {

using kernels::LowRankTerm;
using kernels::VectorKernels;

/// out of `merge_low_rank`, `shift` bytes behind an aligned address, in exactly the stated scratch.
[[nodiscard]] inline std::vector<std::byte> merged(const StoredMatrix& base,
                                                   std::span<const LowRankTerm> terms, std::size_t shift = 0,
                                                   const VectorKernels& table = kernels::vector_kernels()) {
  const auto size = static_cast<std::size_t>(base.view.rows * base.view.cols * dtype_bytes(base.view.dtype));
  std::vector<std::byte> out(size + shift + 1, std::byte{0x5A});
  const ExactScratch room(kernels::merge_scratch_bytes);
  kernels::merge_low_rank(base.view, terms, out.data() + shift, room.scratch(), table);
  CHECK(room.guard_untouched());
  CHECK(out.back() == std::byte{0x5A});
  return {out.begin() + static_cast<std::ptrdiff_t>(shift), out.end() - 1};
}

/// Half the distance between neighbours of `type` around `value`: the error of one rounding to nearest.
[[nodiscard]] inline double half_spacing(DType type, double value) {
  const int digits = type == DType::f16 ? 11 : type == DType::bf16 ? 8 : 24;
  const int least = type == DType::f16 ? -13 : -125;
  int exponent = 0;
  std::frexp(value, &exponent);
  return std::ldexp(1.0, (exponent < least ? least : exponent) - digits - 1);
}

/// The largest error beyond one rounding to the base's type, in units of 2^-24 * magnitude.
[[nodiscard]] inline double merge_error(const StoredMatrix& base, std::span<const Factors> factors,
                                        std::span<const std::byte> got) {
  Twin twin(base.view.rows, base.view.cols);
  twin.add_all(base);
  for (const Factors& f : factors)
    twin.add_product(static_cast<double>(f.term.scale), f.a.view.rows, f.b, f.a);
  double worst = 0;
  for (std::int64_t i = 0; i < twin.rows * twin.cols; ++i) {
    float value = std::numeric_limits<float>::quiet_NaN();
    decode(base.view.dtype, got.data() + i * dtype_bytes(base.view.dtype), 1, &value);
    const double exact = twin.value[static_cast<std::size_t>(i)];
    const double unit = float_unit * twin.magnitude[static_cast<std::size_t>(i)];
    const double larger = std::max(std::abs(exact), std::abs(static_cast<double>(value)));
    const double error = std::abs(static_cast<double>(value) - exact) - half_spacing(base.view.dtype, larger);
    if (!(error <= worst * unit)) worst = error / unit;
  }
  return worst;
}

/// Whether two merges differ nowhere by more than neighbours of `type` do, and by what sums of `depth` random
/// products below 1/4, which stay near 1, may differ in another order.
[[nodiscard]] inline bool agree_within_one_rounding(DType type, std::span<const std::byte> x,
                                                    std::span<const std::byte> y, double depth) {
  const std::int64_t bytes = dtype_bytes(type);
  for (std::int64_t i = 0; i < std::ssize(x); i += bytes) {
    float a = 0;
    float b = 0;
    decode(type, x.data() + i, 1, &a);
    decode(type, y.data() + i, 1, &b);
    const double larger = std::max(std::abs(static_cast<double>(a)), std::abs(static_cast<double>(b)));
    const double room = 2 * half_spacing(type, larger) + depth * float_unit;
    if (!(std::abs(static_cast<double>(a) - static_cast<double>(b)) <= room)) return false;
  }
  return x.size() == y.size();
}

/// `merge(loss)`, by a unit of bfloat16, of base and f: its bytes, and what it counts as lost, are those of floats.
template <class Merge>
void check_loss_as_of_floats(const StoredMatrix& base, const Factors& f, Merge merge) {
  kernels::MergeLoss got;
  kernels::MergeLoss floats;
  const std::vector<std::byte> out = merge(&got);
  std::vector<std::byte> other(out.size());
  const ExactScratch room(kernels::merge_scratch_bytes);
  kernels::merge_low_rank(base.view, {&f.term, 1}, other.data(), room.scratch(),
                          kernels::vector_kernels(kernels::InstructionSet::portable), {.loss = &floats});
  std::int64_t different = 0;
  for (std::size_t i = 0; i < out.size(); i += 2)
    different += out[i] != other[i] || out[i + 1] != other[i + 1] ? 1 : 0;
  CHECK(different <= std::ssize(out) / 2 / 1000); // sums so close to a tie that their order decides
  CHECK(std::abs(got.unmoved - floats.unmoved) <= different);
  CHECK(got.delta_squared == doctest::Approx(floats.delta_squared).epsilon(1e-5));
  CHECK(got.error_squared == doctest::Approx(floats.error_squared).epsilon(1e-2));
}

/// `merge(first row, count, out)` of the rows from `at` on and then of those before it gives the bytes of all `rows`.
template <class Merge>
void check_two_parts(std::span<const std::byte> whole, std::int64_t rows, std::int64_t at, Merge merge) {
  const std::int64_t row_bytes = std::ssize(whole) / rows;
  std::vector<std::byte> parts(whole.size());
  merge(at, rows - at, parts.data() + at * row_bytes);
  merge(std::int64_t{0}, at, parts.data());
  CHECK(std::equal(whole.begin(), whole.end(), parts.begin()));
}

} // namespace tenon::test

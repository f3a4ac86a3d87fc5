// SPDX-License-Identifier: Apache-2.0
// exp and tanh of a block of lanes, four at a time in the compiler's own vector type (as plain loops g++ leaves
// them scalar at -O2). Relative error: at most 2 float ulps (exp), 3 (tanh). A NaN stays a NaN.
#pragma once

#include <tenon/kernels/lanes.hpp>

#include <cstdint>
#include <cstring>

namespace tenon::kernels {

using FourFloats = float __attribute__((vector_size(16)));
using FourInts = std::int32_t __attribute__((vector_size(16)));

/// `block[i] = f(block[i])`, four lanes at a time.
template <class F>
void map_four_lanes(float* block, F f) {
  for (std::int64_t i = 0; i < lane_count; i += 4) {
    FourFloats x;
    std::memcpy(&x, block + i, sizeof x);
    x = f(x);
    std::memcpy(block + i, &x, sizeof x);
  }
}

/// e^x = 2^n e^r, n being the integer nearest to x / ln 2: then |r| <= 0.347, and eight terms of the series
/// leave 6e-9 of the value. Past 88.7 infinity or nearly; from -87.3366 down, just below 2^-126 rather than 0.
[[nodiscard]] inline FourFloats exp_of(FourFloats x) noexcept {
  constexpr float round = 12582912.0f; // 1.5 * 2^23: adding it leaves an integer in the low bits
  x = x > 89.0f ? FourFloats{} + 89.0f : x;
  x = x < -87.3366f ? FourFloats{} - 87.3366f : x;
  const FourFloats shifted = x * 1.44269504f + round;
  const FourFloats n = shifted - round;
  const FourFloats r = (x - n * 0.693359375f) + n * 2.12194440e-4f; // ln 2 in two parts: n times one is exact
  FourFloats sum = r * 1.98412698e-4f + 1.38888889e-3f;
  sum = sum * r + 8.33333333e-3f;
  sum = sum * r + 4.16666667e-2f;
  sum = sum * r + 1.66666667e-1f;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  const FourInts exponent = reinterpret_cast<FourInts>(shifted) - 0x4b400000; // the bits of `round`
  const FourInts first = exponent >> 1; // 2^128 in two steps, each a float
  return sum * reinterpret_cast<FourFloats>((first + 127) << 23) *
         reinterpret_cast<FourFloats>((exponent - first + 127) << 23);
}

/// tanh |x| = 1 - 2 / (e^{2|x|} + 1); below 0.625, where that cancels, the odd polynomial of the Cephes library
/// (S. Moshier, tanhf).
[[nodiscard]] inline FourFloats tanh_of(FourFloats x) noexcept {
  const FourInts sign = reinterpret_cast<FourInts>(x) & INT32_MIN;
  const auto size = reinterpret_cast<FourFloats>(reinterpret_cast<FourInts>(x) & INT32_MAX);
  const FourFloats z = x * x;
  FourFloats sum = z * -5.70498872745e-3f + 2.06390887954e-2f;
  sum = sum * z - 5.37397155531e-2f;
  sum = sum * z + 1.33314422036e-1f;
  sum = sum * z - 3.33332819422e-1f;
  const FourFloats large = 1.0f - 2.0f / (exp_of(2.0f * size) + 1.0f);
  return size < 0.625f ? x + x * z * sum
                       : reinterpret_cast<FourFloats>(reinterpret_cast<FourInts>(large) | sign);
}

inline void exp_lanes(float* block) {
  map_four_lanes(block, [](FourFloats x) { return exp_of(x); });
}

inline void tanh_lanes(float* block) {
  map_four_lanes(block, [](FourFloats x) { return tanh_of(x); });
}

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// exp and tanh of a block of lanes, as plain loops that become vector code at -O2. Relative error: at most 2 float
// ulps (exp), 3 (tanh). A NaN stays a NaN.
#pragma once

#include <tenon/kernels/lanes.hpp>

#include <bit>
#include <cmath>
#include <cstdint>

namespace tenon::kernels {

/// e^x = 2^n e^r, n being the integer nearest to x / ln 2: then |r| <= 0.347, and eight terms of the series leave
/// 6e-9 of the value. Past 88.7 infinity or nearly; from -87.3366 down, just below 2^-126 rather than 0.
inline void exp_lanes(float* block) {
  constexpr float round = 12582912.0f; // 1.5 * 2^23: adding it leaves an integer in the low bits
  for (std::int64_t i = 0; i < lane_count; ++i) {
    float x = block[i] > 89.0f ? 89.0f : block[i];
    x = x < -87.3366f ? -87.3366f : x;
    const float shifted = x * 1.44269504f + round;
    const float n = shifted - round;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f; // ln 2 in two parts, the first exact times n
    float sum = 1.98412698e-4f;
    sum = sum * r + 1.38888889e-3f;
    sum = sum * r + 8.33333333e-3f;
    sum = sum * r + 4.16666667e-2f;
    sum = sum * r + 1.66666667e-1f;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    const std::int32_t exponent = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(round);
    const std::int32_t first = exponent >> 1; // 2^128 in two steps, each a float
    block[i] = sum * std::bit_cast<float>((first + 127) << 23) *
               std::bit_cast<float>((exponent - first + 127) << 23);
  }
}

/// tanh |x| = 1 - 2 / (e^{2|x|} + 1); below 0.625, where that cancels, the odd polynomial of the Cephes library
/// (S. Moshier, tanhf).
inline void tanh_lanes(float* block) {
  alignas(64) float e[lane_count];
  for (std::int64_t i = 0; i < lane_count; ++i) e[i] = 2.0f * std::fabs(block[i]);
  exp_lanes(e);
  for (std::int64_t i = 0; i < lane_count; ++i) {
    const float x = block[i];
    const float z = x * x;
    float sum = -5.70498872745e-3f;
    sum = sum * z + 2.06390887954e-2f;
    sum = sum * z - 5.37397155531e-2f;
    sum = sum * z + 1.33314422036e-1f;
    sum = sum * z - 3.33332819422e-1f;
    const float small = x + x * z * sum;
    const float large = std::copysign(1.0f - 2.0f / (e[i] + 1.0f), x);
    block[i] = std::fabs(x) < 0.625f ? small : large;
  }
}

} // namespace tenon::kernels

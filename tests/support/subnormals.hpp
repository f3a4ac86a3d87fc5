// SPDX-License-Identifier: Apache-2.0
// What units of bfloat16 make of subnormal numbers.
#pragma once

#include <cmath>
#include <limits>

namespace tenon::test {

/// A zero of the same sign for a subnormal number.
[[nodiscard]] inline float without_subnormals(float x) noexcept {
  return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
}

} // namespace tenon::test

// SPDX-License-Identifier: Apache-2.0
// How far a device's numbers may be from the host's.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

namespace tenon::test {

/// The largest difference of two results, as a part of the largest number of the expected one: where terms cancel, an error
/// is measured against the terms. Infinity where one is NaN alone.
[[nodiscard]] inline double difference(std::span<const float> got, std::span<const float> expected) {
  REQUIRE(got.size() == expected.size());
  double largest = 0;
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto a = static_cast<double>(got[i]);
    const auto b = static_cast<double>(expected[i]);
    if ((a != a) != (b != b)) return std::numeric_limits<double>::infinity();
    if (a != a) continue;
    largest = std::max(largest, std::abs(b));
    worst = std::max(worst, std::abs(a - b));
  }
  return largest == 0 ? worst : worst / largest;
}

/// A few hundred sums in float, in another order and with another library's exp, differ by some units of 2^-24 = 6e-8
/// each; a device's must not differ by more than this of the host's.
inline constexpr double device_tolerance = 1e-5;

} // namespace tenon::test

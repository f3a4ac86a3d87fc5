// SPDX-License-Identifier: Apache-2.0
// What a merge loses when the sum is rounded to the weight's type: a small delta may leave a 16-bit weight
// where it was. Counted for every element of a block, in the pass that merges it. delta is the float sum
// s B A; the effective delta is what the stored numbers differ by; the error is their difference. Plain
// numbers: add those of other blocks with +=.
#pragma once

#include <cmath>
#include <cstdint>

namespace tenon::kernels {

struct MergeLoss {
  std::int64_t weights = 0;   ///< elements merged
  std::int64_t unmoved = 0;   ///< of these, stored as before, to the bit
  double delta_squared = 0.0; ///< sum over elements, of delta^2
  double error_squared = 0.0; ///< sum over elements, of (W' as stored - W - delta)^2

  MergeLoss& operator+=(const MergeLoss& other) noexcept {
    weights += other.weights;
    unmoved += other.unmoved;
    delta_squared += other.delta_squared;
    error_squared += other.error_squared;
    return *this;
  }

  /// unmoved / weights; 0 of nothing.
  [[nodiscard]] double share_unmoved() const noexcept {
    return weights == 0 ? 0.0 : static_cast<double>(unmoved) / static_cast<double>(weights);
  }
  /// |error| / |delta|, as vectors of all elements; 0 where delta is 0 everywhere.
  [[nodiscard]] double relative_error() const noexcept {
    return delta_squared > 0.0 ? std::sqrt(error_squared / delta_squared) : 0.0;
  }
};

} // namespace tenon::kernels

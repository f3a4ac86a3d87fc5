// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
namespace tenon::kernels {
struct MergeLoss {
  std::int64_t weights = 0, unmoved = 0;
  double delta_squared = 0, error_squared = 0;
  MergeLoss& operator+=(const MergeLoss&) noexcept { return *this; }
  double share_unmoved() const { return 0; }
  double relative_error() const { return 0; }
};
}

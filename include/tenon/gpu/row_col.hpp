// SPDX-License-Identifier: Apache-2.0
// Which row and column the i-th element of a matrix has, for functors over all elements.
#pragma once

#include <tenon/gpu/system.hpp>

#include <cstdint>

namespace tenon::gpu {

struct RowCol {
  std::int64_t row = 0;
  std::int64_t col = 0;
};

/// Of element i of rows of `cols`. Precondition: i >= 0, cols > 0.
[[nodiscard]] TENON_HD inline RowCol row_col(std::int64_t i, std::int64_t cols) {
  // a division of 64 bits takes a GPU longer than the element's memory traffic
  if (((i | cols) >> 32) == 0) {
    const auto small = static_cast<std::uint32_t>(i);
    const auto width = static_cast<std::uint32_t>(cols);
    return {small / width, small % width};
  }
  return {i / cols, i % cols};
}

} // namespace tenon::gpu

// SPDX-License-Identifier: Apache-2.0
// y = x + one row of a stored table: how positions and token types enter an embedding (Devlin et al., arXiv
// 1810.04805). Cost: one pass over x; the row is decoded by blocks on the stack. In place allowed. One
// thread.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// Precondition: x, y and the table's rows have one width; `row` lies in the table.
inline void add_table_row(std::span<const float> x, WeightMatrix table, std::int64_t row,
                          std::span<float> y) noexcept {
  assert(row >= 0 && row < table.rows && std::ssize(x) == table.cols &&
         "add_table_row: x [width], table [rows,width]");
  constexpr std::int64_t block = 64;
  float decoded[block];
  for (std::int64_t begin = 0; begin < table.cols; begin += block) {
    const std::int64_t count = std::min(block, table.cols - begin);
    decode(table.dtype, table.at(row, begin), count, decoded);
    for (std::int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(begin + i);
      y[at] = x[at] + decoded[i];
    }
  }
}

} // namespace tenon::kernels

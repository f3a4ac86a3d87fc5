// SPDX-License-Identifier: Apache-2.0
// A matrix of doubles that owns itself: what decompositions take and give, so that no third party's type
// stands in an interface. It holds factors and small cores; its memory is the caller's own and stands in no
// ledger.
#pragma once

#include <tenon/kernels/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tenon {

/// [rows, cols], row-major, without gaps.
struct DoubleMatrix {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<double> values{};

  DoubleMatrix() = default;
  /// Zeros.
  DoubleMatrix(std::int64_t row_count, std::int64_t col_count)
      : rows(row_count), cols(col_count), values(static_cast<std::size_t>(row_count * col_count)) {}
  explicit DoubleMatrix(kernels::ConstMatrix from) : DoubleMatrix(from.rows, from.cols) {
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) row(i)[j] = static_cast<double>(from.row(i)[j]);
  }

  [[nodiscard]] double* row(std::int64_t i) noexcept { return values.data() + i * cols; }
  [[nodiscard]] const double* row(std::int64_t i) const noexcept { return values.data() + i * cols; }
  [[nodiscard]] double operator()(std::int64_t i, std::int64_t j) const noexcept { return row(i)[j]; }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// The Cayley transform of a skew matrix Q, C(Q) = (I + Q) (I - Q)^-1 = 2 (I - Q)^-1 - I, which is orthogonal,
// and its truncated series. In float64. I - Q needs no pivoting: its symmetric part is I, so that every pivot
// of an elimination is at least 1 (Golub and Van Loan, "Matrix Computations", section 4.1.4, on unsymmetric
// positive definite systems). Cost: 2 n^3 operations and n^2 doubles; a series as much a term. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace tenon::kernels {

/// A square matrix, row by row. Rows are padded with zeros to whole groups of 8, which compilers turn into
/// vector code at -O2.
class SquareMatrix {
 public:
  explicit SquareMatrix(std::int64_t size)
      : size_(size), stride_((size + group - 1) / group * group),
        values_(static_cast<std::size_t>(size * stride_)) {}

  [[nodiscard]] std::int64_t size() const noexcept { return size_; }
  [[nodiscard]] double* row(std::int64_t i) noexcept { return values_.data() + i * stride_; }
  [[nodiscard]] const double* row(std::int64_t i) const noexcept { return values_.data() + i * stride_; }

  /// Row i += factor * the row `from`, of this stride.
  void add_row(std::int64_t i, double factor, const double* from) noexcept {
    double* const to = row(i);
    for (std::int64_t k = 0; k < stride_; k += group)
      for (std::int64_t l = 0; l < group; ++l) to[k + l] += factor * from[k + l];
  }
  void scale(double factor) noexcept {
    for (double& value : values_) value *= factor;
  }
  void add_to_diagonal(double value) noexcept {
    for (std::int64_t i = 0; i < size_; ++i) row(i)[i] += value;
  }
  /// The Frobenius norm, squared.
  [[nodiscard]] double squares() const noexcept {
    double sum = 0;
    for (const double value : values_) sum += value * value;
    return sum;
  }

 private:
  static constexpr std::int64_t group = 8;
  std::int64_t size_;
  std::int64_t stride_;
  std::vector<double> values_;
};

/// Replaced by its inverse (Gauss-Jordan elimination in place). Precondition: no pivot is 0, as above.
inline void invert(SquareMatrix& a) noexcept {
  for (std::int64_t k = 0; k < a.size(); ++k) {
    double* const pivot_row = a.row(k);
    const double inverse = 1.0 / pivot_row[k];
    pivot_row[k] = 1.0;
    for (std::int64_t j = 0; j < a.size(); ++j) pivot_row[j] *= inverse;
    for (std::int64_t i = 0; i < a.size(); ++i) {
      if (i == k) continue;
      const double factor = -a.row(i)[k];
      a.row(i)[k] = 0.0;
      a.add_row(i, factor, pivot_row);
    }
  }
}

/// C(Q).
[[nodiscard]] inline SquareMatrix cayley(SquareMatrix q) {
  q.scale(-1.0);
  q.add_to_diagonal(1.0);
  invert(q);
  q.scale(2.0);
  q.add_to_diagonal(-1.0);
  return q;
}

/// PEFT's series of C(Q) by its number of terms (tuners/oft/layer.py): I; I + 2 Q; from 4 on I + 2 Q + ... +
/// 2 Q^(n-2) + Q^(n-1); 3 are as 4.
[[nodiscard]] inline SquareMatrix cayley_series(const SquareMatrix& q, int terms) {
  const int powers = terms == 3 ? 3 : terms - 1; // the highest
  SquareMatrix sum(q.size());
  sum.add_to_diagonal(powers > 1 ? 1.0 : 2.0); // Horner's rule, from the highest power on
  if (powers < 1) sum.scale(0.5);
  for (int k = powers; k > 0; --k) {
    SquareMatrix next(q.size());
    for (std::int64_t i = 0; i < q.size(); ++i)
      for (std::int64_t j = 0; j < q.size(); ++j) next.add_row(i, q.row(i)[j], sum.row(j));
    next.add_to_diagonal(k == 1 ? 1.0 : 2.0);
    sum = std::move(next);
  }
  return sum;
}

} // namespace tenon::kernels

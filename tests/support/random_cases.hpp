// SPDX-License-Identifier: Apache-2.0
// What sweeps over random shapes share: sizes at the edges of tiles more often than between them, places at
// any address with any padding, and exact products of decoded doubles, quick enough for hundreds of shapes. A
// case is a function of its number alone, which a failing check prints.
#pragma once

#include <tenon/core/text.hpp>

#include <support/naive.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace tenon::test {

/// The random choices of one case.
class RandomCase {
 public:
  explicit RandomCase(std::uint64_t number) noexcept : numbers_(number) {}

  /// A whole number from 0 to n - 1.
  [[nodiscard]] std::int64_t below(std::int64_t n) noexcept {
    const double unit = (static_cast<double>(numbers_.next()) + 1) / 2;
    return std::min(n - 1, static_cast<std::int64_t>(unit * static_cast<double>(n)));
  }
  /// Two times in three an edge, one less or one more; else anything. From 1 to `most`.
  [[nodiscard]] std::int64_t size(std::int64_t most, std::initializer_list<std::int64_t> edges) noexcept {
    if (below(3) == 0) return 1 + below(most);
    const std::int64_t edge = edges.begin()[below(std::ssize(edges))];
    return std::clamp<std::int64_t>(edge + below(3) - 1, 1, most);
  }
  [[nodiscard]] DType dtype() noexcept { return weight_dtypes[below(3)]; }
  [[nodiscard]] float factor() noexcept { return 2 * numbers_.next(); }
  /// Of a weight: any byte. Every other one has no padding.
  [[nodiscard]] Place weight_place() noexcept { return {below(64), below(2) == 0 ? 0 : below(20)}; }
  /// Of floats: where a float may lie.
  [[nodiscard]] Place float_place() noexcept { return {4 * below(16), below(2) == 0 ? 0 : below(20)}; }
  [[nodiscard]] std::uint64_t seed() noexcept { return static_cast<std::uint64_t>(below(1 << 20)); }

 private:
  Numbers numbers_;
};

[[nodiscard]] inline std::string text(Place place) {
  return concat("(byte ", place.shift, ", padding ", place.padding, ")");
}

/// A stored matrix as it is: exact, each element its own magnitude.
[[nodiscard]] inline Twin exact(kernels::WeightMatrix stored) {
  Twin twin(stored.rows, stored.cols);
  std::vector<float> row(static_cast<std::size_t>(stored.cols));
  for (std::int64_t i = 0; i < stored.rows; ++i) {
    decode(stored.dtype, stored.at(i, 0), stored.cols, row.data());
    for (std::int64_t j = 0; j < stored.cols; ++j) {
      const auto value = static_cast<double>(row[static_cast<std::size_t>(j)]);
      twin.add(i, j, value, std::abs(value));
    }
  }
  return twin;
}
[[nodiscard]] inline Twin exact(kernels::ConstMatrix floats) {
  Twin twin(floats.rows, floats.cols);
  twin.add_all([&](std::int64_t i, std::int64_t j) { return static_cast<double>(floats.row(i)[j]); });
  return twin;
}
[[nodiscard]] inline Twin transposed(const Twin& from) {
  Twin to(from.cols, from.rows);
  for (std::int64_t i = 0; i < from.rows; ++i)
    for (std::int64_t j = 0; j < from.cols; ++j) to.add(j, i, from(i, j), from.size(i, j));
  return to;
}

/// c [m, n] += alpha a [m, k] b [k, n], and the same of the magnitudes.
inline void add_product(Twin& c, double alpha, const Twin& a, const Twin& b) {
  const auto row = [](auto& values, std::int64_t i, std::int64_t cols) { return values.data() + i * cols; };
  for (std::int64_t i = 0; i < c.rows; ++i)
    for (std::int64_t k = 0; k < a.cols; ++k) {
      const double value = alpha * a(i, k);
      const double size = std::abs(alpha) * a.size(i, k);
      const double* const b_value = row(b.value, k, b.cols);
      const double* const b_size = row(b.magnitude, k, b.cols);
      double* const c_value = row(c.value, i, c.cols);
      double* const c_size = row(c.magnitude, i, c.cols);
      for (std::int64_t j = 0; j < c.cols; ++j) {
        c_value[j] += value * b_value[j];
        c_size[j] += size * b_size[j];
      }
    }
}

} // namespace tenon::test

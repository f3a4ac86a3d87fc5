// SPDX-License-Identifier: Apache-2.0
// Cases for merges on a device: several terms with windows and gains, and their sum in float64.
#pragma once

#include <support/merge_checks.hpp>
#include <support/naive.hpp>
#include <support/random_cases.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <vector>

namespace tenon::test {

struct RowCols {
  std::int64_t rows;
  std::int64_t cols;
};

/// A weight and its terms, which begin without gains.
struct MergeCase {
  StoredMatrix base;
  std::vector<std::unique_ptr<Factors>> factors{};
  std::vector<std::vector<float>> gains{};
  std::vector<kernels::LowRankTerm> terms{};
  std::vector<float> scales = std::vector<float>(64); ///< for `scale_at`

  void add(std::int64_t first_row, std::int64_t rows, std::int64_t rank, DType dtype, float scale,
           Place place = {}) {
    const auto seed = static_cast<std::uint64_t>(10 * terms.size() + 100);
    factors.push_back(std::make_unique<Factors>(rows, base.view.cols, rank, dtype, scale, seed, place));
    terms.push_back(factors.back()->term);
    terms.back().first_row = first_row;
  }
  [[nodiscard]] const float* gain(std::int64_t count) {
    Numbers numbers(static_cast<std::uint64_t>(count));
    gains.emplace_back();
    for (std::int64_t i = 0; i < count; ++i) gains.back().push_back(numbers.next());
    return gains.back().data();
  }
  /// The last term's scale comes from memory, and the term's own is wrong.
  void keep_scale_in_memory() {
    scales[terms.size()] = terms.back().scale;
    terms.back().scale_at = &scales[terms.size()];
    terms.back().scale = 1e9f;
  }
  /// The terms as a host takes them.
  [[nodiscard]] std::vector<kernels::LowRankTerm> host_terms() const {
    std::vector<kernels::LowRankTerm> host = terms;
    for (kernels::LowRankTerm& term : host)
      if (term.scale_at != nullptr) term.scale = *term.scale_at;
    return host;
  }
  [[nodiscard]] Twin exact() const {
    Twin twin(base.view.rows, base.view.cols);
    twin.add_all(base);
    const std::vector<kernels::LowRankTerm> all = host_terms();
    for (const kernels::LowRankTerm& term : all) {
      const Twin a = test::exact(term.a);
      const Twin b = test::exact(term.b);
      for (std::int64_t i = 0; i < b.rows && i + term.first_row < twin.rows; ++i)
        for (std::int64_t r = 0; r < a.rows; ++r) {
          double factor = static_cast<double>(term.scale) * b(i, r);
          if (term.row_gain != nullptr) factor *= static_cast<double>(term.row_gain[i]);
          if (term.rank_gain != nullptr) factor *= static_cast<double>(term.rank_gain[r]);
          for (std::int64_t j = 0; j < twin.cols; ++j)
            twin.add(term.first_row + i, j, factor * a(r, j), std::abs(factor * a(r, j)));
        }
    }
    return twin;
  }
  /// Operations in the longest sum: a rounding a product, and four of an element's scale, gains and weight.
  [[nodiscard]] double operations() const {
    return static_cast<double>(kernels::total_rank(terms) + 4 + std::ssize(terms));
  }
};

/// The largest error beyond one rounding to `type`, in units of 2^-24 * magnitude.
[[nodiscard]] inline double rounded_error(DType type, const Twin& exact, std::span<const std::byte> got) {
  double worst = 0;
  for (std::int64_t i = 0; i < exact.rows * exact.cols; ++i) {
    float value = std::numeric_limits<float>::quiet_NaN();
    decode(type, got.data() + i * dtype_bytes(type), 1, &value);
    const double wanted = exact.value[static_cast<std::size_t>(i)];
    const double unit = float_unit * exact.magnitude[static_cast<std::size_t>(i)];
    const double larger = std::max(std::abs(wanted), std::abs(static_cast<double>(value)));
    const double error = std::abs(static_cast<double>(value) - wanted) - half_spacing(type, larger);
    if (!(error <= worst * unit)) worst = error / unit;
  }
  return worst;
}

/// Rows of a placed matrix, without what lies between them.
[[nodiscard]] inline std::vector<std::byte> rows_of(const kernels::WeightMatrix& m) {
  const std::int64_t width = m.cols * dtype_bytes(m.dtype);
  std::vector<std::byte> bytes(static_cast<std::size_t>(m.rows * width));
  for (std::int64_t i = 0; i < m.rows; ++i)
    std::memcpy(bytes.data() + i * width, m.at(i, 0), static_cast<std::size_t>(width));
  return bytes;
}

} // namespace tenon::test

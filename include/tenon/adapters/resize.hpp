// SPDX-License-Identifier: Apache-2.0
// An adapter's pair at another rank: the truncated SVD of B A, taken from its factors, so that no dense delta
// is formed. What is lost is stated. Made larger, a pair keeps its delta: the new ranks are zeros.
// Cost: svd_of_product's. One thread.
#pragma once

#include <tenon/adapters/lora_pair.hpp>
#include <tenon/adapters/rank_rule.hpp>
#include <tenon/adapters/svd.hpp>
#include <tenon/adapters/to_lora.hpp>
#include <tenon/core/compiled.hpp>

#include <cmath>
#include <cstdint>
#include <string>

namespace tenon {

struct ResizeOptions {
  RankRule rank{};
  DType dtype = DType::f32; ///< what the factors are rounded to before the error is measured
};

/// The columns of `left` and then those of `right`; as many rows in each.
[[nodiscard]] inline DoubleMatrix beside(const DoubleMatrix& left, const DoubleMatrix& right) {
  DoubleMatrix out(left.rows, left.cols + right.cols);
  for (std::int64_t i = 0; i < out.rows; ++i) {
    std::copy_n(left.row(i), left.cols, out.row(i));
    std::copy_n(right.row(i), right.cols, out.row(i) + left.cols);
  }
  return out;
}

/// |s B A - s' B' A'| / |s B A|, from the factors alone.
[[nodiscard]] inline double relative_error(const LoraPair& exact, const LoraPair& approximate) {
  DoubleMatrix b(exact.b_view());
  DoubleMatrix other_b(approximate.b_view());
  for (double& x : b.values) x *= exact.scale;
  for (double& x : other_b.values) x *= -approximate.scale;
  DoubleMatrix a(exact.a_view());
  const double norm = product_norm(b, a);
  const DoubleMatrix other_a(approximate.a_view());
  a.rows += other_a.rows;
  a.values.insert(a.values.end(), other_a.values.begin(), other_a.values.end());
  return norm > 0 ? product_norm(beside(b, other_b), a) / norm : 0.0;
}

/// The pair at the rank that `options.rank` chooses, with the same scale and bias. `most` above the pair's own
/// rank, by number: filled up with zeros. Throws `shape_error` for a pair whose parts do not fit.
[[nodiscard]] TENON_INLINE MadeLora resize(const LoraPair& pair, const ResizeOptions& options);

#if TENON_HAS_MAKING_BODIES
TENON_INLINE MadeLora resize(const LoraPair& pair, const ResizeOptions& options) {
  check_pair(pair, "resize");
  const Svd svd = svd_of_product(DoubleMatrix(pair.b_view()), DoubleMatrix(pair.a_view()));
  MadeLora out;
  out.kept = choose_rank(svd.sigma, svd.energy, options.rank);
  const std::int64_t found = out.kept.rank;
  const bool by_number = options.rank.energy == 1 && options.rank.frobenius == 1;
  if (by_number) out.kept.rank = options.rank.most;
  out.pair = {.out = pair.out, .in = pair.in, .rank = out.kept.rank, .scale = pair.scale, .bias = pair.bias};
  const LoraPair made = pair_of_svd(svd, found);
  out.pair.a = made.a;
  out.pair.a.resize(static_cast<std::size_t>(out.pair.rank * pair.in));
  out.pair.b.resize(static_cast<std::size_t>(pair.out * out.pair.rank));
  for (std::int64_t i = 0; i < pair.out; ++i)
    std::copy_n(made.b_view().row(i), found, out.pair.b.data() + i * out.pair.rank);
  round_values(out.pair.a, options.dtype);
  round_values(out.pair.b, options.dtype);
  out.error = relative_error(pair, out.pair);
  return out;
}
#endif

} // namespace tenon

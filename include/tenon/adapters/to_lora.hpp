// SPDX-License-Identifier: Apache-2.0
// Any delta as plain LoRA: the best pair of a rank (Eckart, Young, Mirsky) for a matrix whose rows are made on
// demand, with the error of the pair as it will be stored. The dense delta is held only where the exact way is
// chosen, as doubles. Cost: svd.hpp's, and one more pass for the error. One thread.
#pragma once

#include <tenon/adapters/lora_pair.hpp>
#include <tenon/adapters/rank_rule.hpp>
#include <tenon/adapters/row_source.hpp>
#include <tenon/adapters/svd.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tenon {

enum class SvdMethod : std::uint8_t {
  automatic,  ///< exact up to `exact_svd_limit` of the shorter side, or where the sample would be half of it
  exact,      ///< holds the dense delta
  randomised, ///< tiles only
};

/// The shorter side up to which an exact decomposition takes less than about a second.
inline constexpr std::int64_t exact_svd_limit = 256;

struct ToLoraOptions {
  RankRule rank{};
  SvdMethod method = SvdMethod::automatic;
  std::int64_t oversampling = 10; ///< of the randomised way; see RandomisedSvd
  int power_iterations = 2;
  std::uint64_t seed = 0;
  double clamp_quantile =
      1; ///< values beyond this quantile are cut to it, as kohya's and PEFT's `clamp`; 1: none
  DType dtype = DType::f32; ///< what the factors are rounded to before the error is measured
  Ledger* ledger = nullptr; ///< where what is held meanwhile is entered; the process's if null
};

/// A pair made from something else, and how far it is from that.
struct MadeLora {
  LoraPair pair{};
  KeptRank kept{};
  double error = 0; ///< |delta - scale B A| / |delta|, Frobenius norms; 0 for a delta of zeros
};

[[nodiscard]] inline bool uses_exact_svd(const ToLoraOptions& options, std::int64_t rows,
                                         std::int64_t cols) noexcept {
  const std::int64_t shorter = std::min(rows, cols);
  if (options.method != SvdMethod::automatic) return options.method == SvdMethod::exact;
  return shorter <= exact_svd_limit || 2 * (options.rank.most + options.oversampling) >= shorter;
}

/// Bytes that `to_lora` holds at its peak, beside the pair that it returns.
[[nodiscard]] inline std::int64_t to_lora_bytes(const ToLoraOptions& options, std::int64_t rows,
                                                std::int64_t cols) noexcept {
  const std::int64_t shorter = std::min(rows, cols);
  const std::int64_t samples = std::min(options.rank.most + options.oversampling, shorter);
  const std::int64_t tile = RowSource{.rows = rows, .cols = cols}.tile_rows() * cols;
  if (uses_exact_svd(options, rows, cols))
    return 4 * tile + 8 * (4 * rows * cols + 2 * shorter * (rows + cols));
  return 12 * tile + 8 * 3 * samples * (rows + cols);
}

/// Values beyond the `quantile` of all values of both factors, or below its negative, are cut to it. The quantile is
/// interpolated between neighbours, as torch.quantile does.
inline void clamp_factors(std::vector<float>& b, std::vector<float>& a, double quantile) {
  if (!(quantile >= 0 && quantile <= 1))
    throw error(ErrorCode::bad_argument,
                concat("clamp quantile: expected a share from 0 to 1, got ", std::to_string(quantile)));
  if (quantile == 1 || b.empty()) return;
  std::vector<float> all(b);
  all.insert(all.end(), a.begin(), a.end());
  const double place = quantile * static_cast<double>(all.size() - 1);
  const auto below = all.begin() + static_cast<std::ptrdiff_t>(std::floor(place));
  std::nth_element(all.begin(), below, all.end());
  const auto above = below + 1 == all.end() ? below : std::min_element(below + 1, all.end());
  const double part = place - std::floor(place);
  const auto bound =
      static_cast<float>(static_cast<double>(*below) * (1 - part) + static_cast<double>(*above) * part);
  const auto cut = [bound](std::vector<float>& values) {
    for (float& x : values) x = std::min(std::max(x, -bound), bound);
  };
  cut(b);
  cut(a);
}

/// The first `rank` of a decomposition as B [rows, rank] and A [rank, cols] with B A = U sigma V^T. The
/// singular values go half to either side, which keeps both in the range of 16 bits; with a clamp all go to B, as
/// the tools have it that clamp.
[[nodiscard]] inline LoraPair pair_of_svd(const Svd& svd, std::int64_t rank, double clamp_quantile = 1) {
  LoraPair out{.out = svd.u.rows, .in = svd.v.rows, .rank = rank};
  out.a.resize(static_cast<std::size_t>(rank * out.in));
  out.b.resize(static_cast<std::size_t>(out.out * rank));
  for (std::int64_t k = 0; k < rank; ++k) {
    const double sigma = svd.sigma[static_cast<std::size_t>(k)];
    const double of_a = clamp_quantile < 1 ? 1 : std::sqrt(sigma);
    const double of_b = clamp_quantile < 1 ? sigma : of_a;
    for (std::int64_t j = 0; j < out.in; ++j)
      out.a[static_cast<std::size_t>(k * out.in + j)] = static_cast<float>(of_a * svd.v(j, k));
    for (std::int64_t i = 0; i < out.out; ++i)
      out.b[static_cast<std::size_t>(i * rank + k)] = static_cast<float>(of_b * svd.u(i, k));
  }
  clamp_factors(out.b, out.a, clamp_quantile);
  return out;
}

/// Each value as `dtype` would give it back.
inline void round_values(std::vector<float>& values, DType dtype) {
  std::vector<std::byte> stored(values.size() * static_cast<std::size_t>(dtype_bytes(dtype)));
  encode(dtype, values.data(), std::ssize(values), stored.data());
  decode(dtype, stored.data(), std::ssize(values), values.data());
}

/// |M - scale B A| / |M|, in one pass over M, summed in doubles.
[[nodiscard]] inline double relative_error(const RowSource& m, const LoraPair& pair) {
  using namespace eigen;
  using FloatRows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Rows a = Eigen::Map<const FloatRows>(pair.a.data(), pair.rank, pair.in).cast<double>() * pair.scale;
  const std::int64_t step = std::max(m.tile_rows() / 4, std::int64_t{1}); // two tiles of doubles at a time
  std::vector<float> floats(static_cast<std::size_t>(step * m.cols));
  double error = 0;
  double energy = 0;
  for (std::int64_t first = 0; first < m.rows; first += step) {
    const std::int64_t count = std::min(step, m.rows - first);
    m.fill(m.context, first, count, floats.data());
    Rows rest = Eigen::Map<const FloatRows>(floats.data(), count, m.cols).cast<double>();
    energy += rest.squaredNorm();
    const Eigen::Map<const FloatRows> b(pair.b.data() + first * pair.rank, count, pair.rank);
    rest.noalias() -= b.cast<double>() * a;
    error += rest.squaredNorm();
  }
  return energy > 0 ? std::sqrt(error / energy) : 0.0;
}

/// What `to_lora` holds while it works, entered in a ledger.
class ScratchCharge {
 public:
  ScratchCharge(Ledger& ledger, std::int64_t bytes, std::string_view operation)
      : ledger_(ledger), bytes_(bytes) {
    ledger.charge(Category::scratch, bytes, operation);
  }
  ~ScratchCharge() { ledger_.discharge(Category::scratch, bytes_); }
  ScratchCharge(const ScratchCharge&) = delete;
  ScratchCharge& operator=(const ScratchCharge&) = delete;

 private:
  Ledger& ledger_;
  std::int64_t bytes_;
};

/// The matrix as doubles.
[[nodiscard]] inline DoubleMatrix dense(const RowSource& m) {
  DoubleMatrix out(m.rows, m.cols);
  const std::int64_t step = m.tile_rows();
  std::vector<float> tile(static_cast<std::size_t>(step * m.cols));
  for (std::int64_t first = 0; first < m.rows; first += step) {
    const std::int64_t count = std::min(step, m.rows - first);
    m.fill(m.context, first, count, tile.data());
    std::copy_n(tile.data(), count * m.cols, out.row(first));
  }
  return out;
}

/// The pair, with scale 1, that is nearest to `m` under the rule. Throws `budget_error` before anything is
/// made, `error{bad_argument}` for options out of range or values that are not finite.
[[nodiscard]] TENON_INLINE MadeLora to_lora(const RowSource& m, const ToLoraOptions& options);

#if TENON_HAS_MAKING_BODIES
TENON_INLINE MadeLora to_lora(const RowSource& m, const ToLoraOptions& options) {
  check_rank_rule(options.rank);
  if (m.rows < 1 || m.cols < 1 || !is_weight_dtype(options.dtype))
    throw error(ErrorCode::bad_argument,
                concat("LoRA of a delta: expected rows and columns, and factors of F32, F16 or ",
                       "BF16, got [", m.rows, ", ", m.cols, "] and ", dtype_name(options.dtype)));
  Ledger& ledger = options.ledger != nullptr ? *options.ledger : process_ledger();
  const ScratchCharge held(ledger, to_lora_bytes(options, m.rows, m.cols), "decomposing a delta");
  const Svd svd = uses_exact_svd(options, m.rows, m.cols)
                      ? exact_svd(dense(m))
                      : randomised_svd(m, {options.rank.most, options.oversampling, options.power_iterations,
                                           options.seed});
  MadeLora out;
  out.kept = choose_rank(svd.sigma, svd.energy, options.rank);
  out.pair = pair_of_svd(svd, out.kept.rank, options.clamp_quantile);
  round_values(out.pair.a, options.dtype);
  round_values(out.pair.b, options.dtype);
  out.error = relative_error(m, out.pair);
  return out;
}
#endif

} // namespace tenon

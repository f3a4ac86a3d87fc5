// SPDX-License-Identifier: Apache-2.0
// Singular value decompositions for low-rank work, in doubles: of a product B A through the QR of both factors
// and an SVD of the rank's size (the dense product is never formed), of a dense matrix exactly, and of rows made on
// demand by random projection (Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review
// 53(2), 2011, algorithms 4.4 and 5.1: subspace iteration with QR in each step). Eigen computes; its types stay
// inside. One thread; every call may run beside others.
#pragma once

#include <tenon/adapters/double_matrix.hpp>
#include <tenon/adapters/row_source.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>

#include <Eigen/Core>
#include <Eigen/QR>
#include <Eigen/SVD>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <utility>
#include <vector>

namespace tenon {

/// M [rows, cols] = U diag(sigma) V^T, or its first part; sigma descends.
struct Svd {
  DoubleMatrix u{};            ///< [rows, k], columns orthonormal
  std::vector<double> sigma{}; ///< [k]
  DoubleMatrix v{};            ///< [cols, k], columns orthonormal
  double energy = 0;           ///< the squares of all elements of M, summed: of all sigma, kept or not
};

struct RandomisedSvd {
  std::int64_t rank = 16;         ///< singular values wanted
  std::int64_t oversampling = 10; ///< directions sampled beyond them
  int power_iterations =
      2; ///< each makes the gap between wanted and other sigma that much wider, for two passes
  std::uint64_t seed = 0;
};

/// All singular values of B A, at most the rank. B [rows, rank], A [rank, cols].
/// Cost: 2 rank^2 (rows + cols) flops and a decomposition [rank, rank].
[[nodiscard]] Svd svd_of_product(const DoubleMatrix& b, const DoubleMatrix& a);

/// All min(rows, cols) of a dense matrix. Cost: about 60 rows cols min(rows, cols) flops, 4 copies of M.
[[nodiscard]] Svd exact_svd(const DoubleMatrix& m);

/// The first `rank` of a matrix made in tiles. Cost: 2 + 2 power_iterations passes over the rows, each 2 rows cols
/// (rank + oversampling) flops; 3 (rows + cols) (rank + oversampling) doubles and a tile.
[[nodiscard]] Svd randomised_svd(const RowSource& m, const RandomisedSvd& options);

/// The Frobenius norm of B A, without forming it.
[[nodiscard]] double product_norm(const DoubleMatrix& b, const DoubleMatrix& a);

namespace eigen {

using Columns = Eigen::MatrixXd; // column-major: what Eigen decomposes in place
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

[[nodiscard]] inline Eigen::Map<const Rows> map(const DoubleMatrix& m) {
  return {m.values.data(), m.rows, m.cols};
}
[[nodiscard]] inline DoubleMatrix copy(const Eigen::Ref<const Columns>& m) {
  DoubleMatrix out(m.rows(), m.cols());
  Eigen::Map<Rows>(out.values.data(), out.rows, out.cols) = m;
  return out;
}

/// The upper part R [min(rows, cols), cols] of a QR.
[[nodiscard]] inline Columns upper(const Eigen::HouseholderQR<Columns>& qr) {
  const Eigen::Index k = std::min(qr.matrixQR().rows(), qr.matrixQR().cols());
  return qr.matrixQR().topRows(k).triangularView<Eigen::Upper>();
}
/// Q m, for m of fewer rows than Q has: the missing ones are zeros.
[[nodiscard]] inline Columns rotated(const Eigen::HouseholderQR<Columns>& qr, const Columns& m) {
  Columns padded = Columns::Zero(qr.matrixQR().rows(), m.cols());
  padded.topRows(m.rows()) = m;
  padded.applyOnTheLeft(qr.householderQ());
  return padded;
}
/// An orthonormal basis of what the columns of `m` span (of at least that), in their place.
inline void orthonormalise(Columns& m) {
  const Eigen::HouseholderQR<Columns> qr(m);
  m = rotated(qr, Columns::Identity(m.cols(), m.cols()));
}

/// U, sigma, V of a dense matrix.
struct Parts {
  Columns u;
  Eigen::VectorXd sigma;
  Columns v;
};

/// By two-sided Jacobi rotations of the square part that QR leaves, which is the most accurate way (Demmel, Veselic,
/// SIAM J. Matrix Anal. Appl. 13(4), 1992). Eigen's divide and conquer is faster from some hundred columns on,
/// but costs each source that includes it half a minute of compilation. Throws for NaN and infinity.
[[nodiscard]] inline Parts decompose(const Columns& m) {
  if (!m.allFinite())
    throw error(ErrorCode::bad_argument,
                "singular values: expected finite numbers, got NaN or infinity among the factors");
  if (m.rows() < m.cols()) {
    Parts turned = decompose(m.transpose());
    return {std::move(turned.v), std::move(turned.sigma), std::move(turned.u)};
  }
  const Eigen::HouseholderQR<Columns> qr(m);
  const Eigen::JacobiSVD<Columns, Eigen::NoQRPreconditioner> svd(upper(qr),
                                                                 Eigen::ComputeFullU | Eigen::ComputeFullV);
  return {rotated(qr, svd.matrixU()), svd.singularValues(), svd.matrixV()};
}
[[nodiscard]] inline std::vector<double> values(const Eigen::VectorXd& sigma) {
  return {sigma.data(), sigma.data() + sigma.size()};
}

/// Passes over a matrix that is made a tile at a time.
class Passes {
 public:
  explicit Passes(const RowSource& source) : source_(source) {
    floats_.resize(static_cast<std::size_t>(source.tile_rows() * source.cols));
  }
  /// y [rows, k] = M x [cols, k]; the squares of M's elements are summed up beside it.
  [[nodiscard]] double multiply(const Columns& x, Columns& y) {
    double energy = 0;
    y.resize(source_.rows, x.cols());
    for_tiles([&](std::int64_t first, const Rows& tile) {
      y.middleRows(first, tile.rows()).noalias() = tile * x;
      energy += tile.squaredNorm();
    });
    return energy;
  }
  /// x [cols, k] = M^T y [rows, k].
  void multiply_transposed(const Columns& y, Columns& x) {
    x.setZero(source_.cols, y.cols());
    for_tiles([&](std::int64_t first, const Rows& tile) {
      x.noalias() += tile.transpose() * y.middleRows(first, tile.rows());
    });
  }

 private:
  template <class F>
  void for_tiles(F f) {
    using FloatRows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const std::int64_t step = source_.tile_rows();
    for (std::int64_t first = 0; first < source_.rows; first += step) {
      const std::int64_t count = std::min(step, source_.rows - first);
      source_.fill(source_.context, first, count, floats_.data());
      tile_ = Eigen::Map<const FloatRows>(floats_.data(), count, source_.cols).cast<double>();
      f(first, tile_);
    }
  }

  const RowSource& source_;
  std::vector<float> floats_{};
  Rows tile_{};
};

/// Independent standard normal values, the same on every machine up to its log and cos: splitmix64 (Steele,
/// Lea, Flood, OOPSLA 2014) through the transform of Box and Muller (1958).
[[nodiscard]] inline Columns normal_values(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  const auto next = [&seed] { // in (0, 1]
    seed += 0x9E3779B97F4A7C15U;
    std::uint64_t z = (seed ^ (seed >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    return static_cast<double>(((z ^ (z >> 31U)) >> 11U) + 1) * 0x1p-53;
  };
  Columns out(rows, cols);
  for (Eigen::Index i = 0; i < out.size(); ++i) {
    const double radius = std::sqrt(-2 * std::log(next()));
    out.data()[i] = radius * std::cos(2 * std::numbers::pi * next());
  }
  return out;
}

} // namespace eigen

#if TENON_HAS_MAKING_BODIES
TENON_INLINE Svd svd_of_product(const DoubleMatrix& b, const DoubleMatrix& a) {
  using namespace eigen;
  const Eigen::HouseholderQR<Columns> qr_b{Columns(map(b))};
  const Eigen::HouseholderQR<Columns> qr_a{Columns(map(a).transpose())};
  const Columns core = upper(qr_b) * upper(qr_a).transpose();
  const Parts svd = decompose(core);
  return {copy(rotated(qr_b, svd.u)), values(svd.sigma), copy(rotated(qr_a, svd.v)), core.squaredNorm()};
}
#endif

#if TENON_HAS_MAKING_BODIES
TENON_INLINE double product_norm(const DoubleMatrix& b, const DoubleMatrix& a) {
  using namespace eigen;
  const Eigen::HouseholderQR<Columns> qr_b{Columns(map(b))};
  const Eigen::HouseholderQR<Columns> qr_a{Columns(map(a).transpose())};
  return (upper(qr_b) * upper(qr_a).transpose()).norm();
}
#endif

#if TENON_HAS_MAKING_BODIES
TENON_INLINE Svd exact_svd(const DoubleMatrix& m) {
  using namespace eigen;
  const Parts svd = decompose(map(m));
  return {copy(svd.u), values(svd.sigma), copy(svd.v), map(m).squaredNorm()};
}
#endif

#if TENON_HAS_MAKING_BODIES
TENON_INLINE Svd randomised_svd(const RowSource& m, const RandomisedSvd& options) {
  using namespace eigen;
  if (options.rank < 1 || options.oversampling < 0 || options.power_iterations < 0)
    throw error(ErrorCode::bad_argument,
                concat("randomised SVD: expected a rank of at least 1, oversampling and power iterations of "
                       "at least 0, ",
                       "got ", options.rank, ", ", options.oversampling, " and ", options.power_iterations));
  const std::int64_t samples = std::min({options.rank + options.oversampling, m.rows, m.cols});
  Passes passes(m);
  Columns y;
  Columns x = normal_values(m.cols, samples, options.seed);
  const double energy = passes.multiply(x, y);
  if (!std::isfinite(energy))
    throw error(ErrorCode::bad_argument,
                "singular values: expected finite numbers, got NaN or infinity among the rows");
  for (int i = 0; i < options.power_iterations; ++i) {
    orthonormalise(y);
    passes.multiply_transposed(y, x);
    orthonormalise(x);
    (void)passes.multiply(x, y);
  }
  orthonormalise(y);
  passes.multiply_transposed(y, x); // M = y x^T on the basis found: the SVD of x is all that is left
  const Parts svd = decompose(x);
  const Eigen::Index k = std::min(options.rank, samples);
  Svd out{copy(y * svd.v.leftCols(k)), values(svd.sigma), copy(svd.u.leftCols(k)), energy};
  out.sigma.resize(static_cast<std::size_t>(k));
  return out;
}
#endif

} // namespace tenon

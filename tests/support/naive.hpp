// SPDX-License-Identifier: Apache-2.0
// What the kernel tests share: matrices of random values stored as the kernels get them (any dtype, any
// address, padded rows), and plain float64 twins that carry, beside each value, the sum of the magnitudes
// that went into it. A float result of n operations may differ from the exact one by about n * 2^-24 *
// magnitude (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1): that is every tolerance
// here.
#pragma once

#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/weights/convert.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

namespace tenon::test {

inline constexpr double float_unit = 0x1p-24; ///< largest relative error of one rounding to float

/// A reproducible stream of numbers (a linear congruence mod 2^64, upper bits; Knuth, TAOCP 2,
/// section 3.3.4).
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) noexcept : state_(seed * 2862933555777941757U + 3037000493U) {}
  /// Evenly in [-1, 1).
  [[nodiscard]] float next() noexcept {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<float>(static_cast<std::int32_t>(state_ >> 32)) * 0x1p-31F;
  }

 private:
  std::uint64_t state_;
};

/// Where a matrix lies: its first byte `shift` bytes behind a 64-byte boundary, `padding` elements between
/// rows.
struct Place {
  std::int64_t shift = 0;
  std::int64_t padding = 0;
};

/// Bytes from a 64-byte boundary plus a shift; all ones before anything is written: NaN in every float type.
class PlacedBytes {
 public:
  PlacedBytes(std::int64_t size, std::int64_t shift)
      : bytes_(static_cast<std::size_t>(size + shift + 64), std::byte{0xFF}) {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    first_ = bytes_.data() + (64 - address % 64) % 64 + shift;
  }
  PlacedBytes(PlacedBytes&&) = default; ///< a moved vector keeps its address
  [[nodiscard]] std::byte* data() const noexcept { return first_; }

 private:
  std::vector<std::byte> bytes_;
  std::byte* first_;
};

/// Random values stored as a weight; the padding is NaN, so that a kernel that reads it shows.
struct StoredMatrix {
  StoredMatrix(std::int64_t rows, std::int64_t cols, DType type, std::uint64_t seed, Place place = {})
      : bytes(rows * (cols + place.padding) * dtype_bytes(type), place.shift),
        view{bytes.data(), type, rows, cols, cols + place.padding} {
    Numbers numbers(seed);
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      const float value = numbers.next();
      encode(type, &value, 1, bytes.data() + (view.at(i / cols, i % cols) - view.data));
    }
  }
  [[nodiscard]] double operator()(std::int64_t i, std::int64_t j) const noexcept {
    float value = 0;
    decode(view.dtype, view.at(i, j), 1, &value);
    return static_cast<double>(value);
  }
  [[nodiscard]] kernels::WeightVector vector() const noexcept { return {view.data, view.dtype, view.cols}; }

  PlacedBytes bytes;
  kernels::WeightMatrix view;
};

/// Random floats; `place.shift` is a multiple of 4. The padding is NaN, and must be so after a kernel has
/// run.
struct FloatMatrix {
  FloatMatrix(std::int64_t rows, std::int64_t cols, std::uint64_t seed, Place place = {})
      : bytes(rows * (cols + place.padding) * 4, place.shift),
        view{reinterpret_cast<float*>(bytes.data()), rows, cols, cols + place.padding} {
    Numbers numbers(seed);
    for (std::int64_t i = 0; i < rows; ++i)
      for (float& value : view.row_span(i)) value = numbers.next();
  }
  [[nodiscard]] double operator()(std::int64_t i, std::int64_t j) const noexcept {
    return static_cast<double>(view.row(i)[j]);
  }
  /// Whether nothing was written between the rows.
  [[nodiscard]] bool padding_untouched() const noexcept {
    for (std::int64_t i = 0; i < view.rows; ++i)
      for (std::int64_t j = view.cols; j < view.stride; ++j)
        if (view.row(i)[j] == view.row(i)[j]) return false;
    return true;
  }

  PlacedBytes bytes;
  kernels::Matrix view;
};

/// Whether two matrices hold the same bits, wherever they lie.
[[nodiscard]] inline bool same_bits(kernels::ConstMatrix a, kernels::ConstMatrix b) noexcept {
  bool same = a.rows == b.rows && a.cols == b.cols;
  for (std::int64_t i = 0; same && i < a.rows; ++i)
    same = std::memcmp(a.row(i), b.row(i), static_cast<std::size_t>(a.cols) * sizeof(float)) == 0;
  return same;
}

/// Scratch of exactly the stated size: dirty, on a 64-byte boundary, with bytes behind it that must stay as
/// they are.
class ExactScratch {
 public:
  explicit ExactScratch(std::int64_t size) : size_(size), bytes_(size + guard, 0) {}
  [[nodiscard]] kernels::Scratch scratch() const noexcept {
    return kernels::Scratch({bytes_.data(), static_cast<std::size_t>(size_)});
  }
  [[nodiscard]] bool guard_untouched() const noexcept {
    for (std::int64_t i = size_; i < size_ + guard; ++i)
      if (bytes_.data()[i] != std::byte{0xFF}) return false;
    return true;
  }

 private:
  static constexpr std::int64_t guard = 64;
  std::int64_t size_;
  PlacedBytes bytes_;
};

/// Exact results in row-major order, each with the magnitudes that went into it.
struct Twin {
  Twin(std::int64_t row_count, std::int64_t col_count)
      : rows(row_count), cols(col_count), value(static_cast<std::size_t>(rows * cols)), magnitude(value) {}

  /// Element (i, j) += a sum, and the magnitudes of its terms.
  void add(std::int64_t i, std::int64_t j, double sum, double terms) {
    value[static_cast<std::size_t>(i * cols + j)] += sum;
    magnitude[static_cast<std::size_t>(i * cols + j)] += terms;
  }
  template <class Values>
  void add_all(const Values& start) {
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) add(i, j, start(i, j), std::abs(start(i, j)));
  }
  /// += alpha sum_k a(i, k) b(k, j), and the same of the magnitudes `a_size`, `b_size`.
  template <class A, class B, class SizeA, class SizeB>
  void add_product(double alpha, std::int64_t depth, const A& a, const B& b, const SizeA& a_size,
                   const SizeB& b_size) {
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) {
        double sum = 0;
        double terms = 0;
        for (std::int64_t k = 0; k < depth; ++k) {
          sum += a(i, k) * b(k, j);
          terms += a_size(i, k) * b_size(k, j);
        }
        add(i, j, alpha * sum, std::abs(alpha) * terms);
      }
  }
  template <class A, class B>
  void add_product(double alpha, std::int64_t depth, const A& a, const B& b) {
    const auto a_size = [&](std::int64_t i, std::int64_t k) { return std::abs(a(i, k)); };
    const auto b_size = [&](std::int64_t k, std::int64_t j) { return std::abs(b(k, j)); };
    add_product(alpha, depth, a, b, a_size, b_size);
  }
  [[nodiscard]] double operator()(std::int64_t i, std::int64_t j) const {
    return value[static_cast<std::size_t>(i * cols + j)];
  }
  [[nodiscard]] double size(std::int64_t i, std::int64_t j) const {
    return magnitude[static_cast<std::size_t>(i * cols + j)];
  }

  std::int64_t rows;
  std::int64_t cols;
  std::vector<double> value;
  std::vector<double> magnitude;
};

/// The largest error of `got`, in units of 2^-24 * magnitude: compare it with the number of operations.
[[nodiscard]] inline double error_in_units(kernels::ConstMatrix got, const Twin& exact) {
  double worst = 0;
  for (std::int64_t i = 0; i < exact.rows; ++i)
    for (std::int64_t j = 0; j < exact.cols; ++j) {
      const double error = std::abs(static_cast<double>(got.row(i)[j]) - exact(i, j));
      const double unit =
          float_unit * exact.size(i, j) + static_cast<double>(std::numeric_limits<float>::min());
      if (!(error <= worst * unit)) worst = error / unit;
      if (worst != worst) return std::numeric_limits<double>::infinity();
    }
  return worst;
}

/// An adapter for a weight [out, in] with random factors.
struct Factors {
  Factors(std::int64_t out, std::int64_t in, std::int64_t rank, DType type, float scale, std::uint64_t seed,
          Place place = {})
      : a(rank, in, type, seed, place), b(out, rank, type, seed + 1, place), term{a.view, b.view, scale} {}

  StoredMatrix a;
  StoredMatrix b;
  kernels::LowRankTerm term;
};

inline constexpr DType weight_dtypes[] = {DType::f32, DType::f16, DType::bf16};

} // namespace tenon::test

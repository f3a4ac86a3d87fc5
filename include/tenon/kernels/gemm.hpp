// SPDX-License-Identifier: Apache-2.0
// c += alpha a b^T and c += alpha a b, where b is stored in any weight type. The arithmetic is Eigen's packed
// panel product (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34(3),
// 2008), driven by our own loops, so that packed panels live in the caller's scratch, a tile of b is decoded
// just before it is packed (once, not once per row block of a), and block sizes are constants: neither memory
// nor results depend on the machine's caches. Cost: 2 m n k flops; at most 704 KiB of scratch. One thread.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/weight_tile.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace tenon::kernels {

inline constexpr std::int64_t gemm_depth = 256;         ///< of k, packed together
inline constexpr std::int64_t gemm_rows = 512;          ///< of a, packed together
inline constexpr std::int64_t gemm_cols = 96;           ///< of c, packed together
inline constexpr std::int64_t gemm_few_rows = 4;        ///< of a: up to here b is streamed, not packed
inline constexpr std::int64_t gemm_stream_depth = 1536; ///< of k, streamed together

/// Floats of the largest tile of b, for n columns of c and depth k.
[[nodiscard]] constexpr std::int64_t gemm_tile_floats(std::int64_t n, std::int64_t k) noexcept {
  return std::min(gemm_depth * gemm_cols, n * k);
}

/// Scratch of `multiply_nt` and `multiply_nn` for c [m, n] and depth k, any dtype. Grows with each of them;
/// at most 704 KiB.
[[nodiscard]] constexpr std::int64_t multiply_scratch_bytes(std::int64_t m, std::int64_t n,
                                                            std::int64_t k) noexcept {
  const std::int64_t depth = std::min(k, gemm_depth);
  const std::int64_t tile = scratch_bytes<float>(gemm_tile_floats(n, k));
  return scratch_sum({scratch_bytes<float>(depth * std::min(m, gemm_rows)), tile, tile});
}

/// How b is stored: as [n, k], whose rows are dotted with those of a, or as [k, n].
enum class RightOperand { transposed, plain };

/// Eigen's panels, seen from the transposed product c^T = b^T a^T, whose c^T is column-major.
template <RightOperand Form>
struct Panels {
  static constexpr int b_order = Form == RightOperand::transposed ? Eigen::RowMajor : Eigen::ColMajor;
  using Traits = Eigen::internal::gebp_traits<float, float>;
  using Source = Eigen::internal::const_blas_data_mapper<float, Eigen::Index, Eigen::ColMajor>;
  using SourceB = Eigen::internal::const_blas_data_mapper<float, Eigen::Index, b_order>;
  using Target = Eigen::internal::blas_data_mapper<float, Eigen::Index, Eigen::ColMajor>;
  using PackA = Eigen::internal::gemm_pack_rhs<float, Eigen::Index, Source, Traits::nr, Eigen::ColMajor>;
#if EIGEN_VERSION_AT_LEAST(3, 3, 90)
  using PackB = Eigen::internal::gemm_pack_lhs<float, Eigen::Index, SourceB, Traits::mr, Traits::LhsProgress,
                                               typename Traits::LhsPacket4Packing, b_order>;
#else
  using PackB =
      Eigen::internal::gemm_pack_lhs<float, Eigen::Index, SourceB, Traits::mr, Traits::LhsProgress, b_order>;
#endif
  using Product = Eigen::internal::gebp_kernel<float, float, Eigen::Index, Target, Traits::mr, Traits::nr>;

  static void pack_a(float* to, ConstMatrix a) { PackA()(to, Source(a.data, a.stride), a.cols, a.rows); }
  static void pack_b(float* to, ConstMatrix b, std::int64_t depth, std::int64_t cols) {
    PackB()(to, SourceB(b.data, b.stride), depth, cols);
  }
  static void multiply(const float* packed_b, const float* packed_a, std::int64_t depth, float alpha,
                       Matrix c) {
    Product()(Target(c.data, c.stride), packed_b, packed_a, c.cols, depth, c.rows, alpha);
  }
};

template <RightOperand Form>
void multiply_packed(ConstMatrix a, WeightMatrix b, float alpha, Matrix c, Scratch scratch) {
  using P = Panels<Form>;
  const std::int64_t depth_step = even_part(a.cols, gemm_depth, 8);
  const std::int64_t row_step = even_part(c.rows, gemm_rows, 4);
  const std::int64_t tile_size = gemm_tile_floats(c.cols, a.cols);
  const auto packed_a = scratch.take<float>(depth_step * row_step);
  const auto packed_b = scratch.take<float>(tile_size);
  const auto decoded = scratch.take<float>(tile_size);
  for (std::int64_t i = 0; i < c.rows; i += row_step) {
    const std::int64_t rows = std::min(row_step, c.rows - i);
    for (std::int64_t k = 0; k < a.cols; k += depth_step) {
      const std::int64_t depth = std::min(depth_step, a.cols - k);
      P::pack_a(packed_a.data(), a.rows_from(i, rows).cols_from(k, depth));
      for (std::int64_t j = 0; j < c.cols; j += gemm_cols) {
        const std::int64_t cols = std::min(gemm_cols, c.cols - j);
        const WeightMatrix block =
            Form == RightOperand::transposed ? b.block(j, k, cols, depth) : b.block(k, j, depth, cols);
        P::pack_b(packed_b.data(), float_tile(block, decoded), depth, cols);
        P::multiply(packed_b.data(), packed_a.data(), depth, alpha, c.rows_from(i, rows).cols_from(j, cols));
      }
    }
  }
}

/// c[r] += alpha sum_k b[r][k] a[k] for neighbouring rows r of b. Each row's sum is one vector accumulator,
/// added up across its lanes at the end, whatever the addresses and the rows beside it.
template <std::size_t... R>
void dot_rows(std::index_sequence<R...>, ConstMatrix b, const float* a, float alpha, float* c) {
  using Packet = Eigen::internal::packet_traits<float>::type;
  constexpr std::int64_t width = Eigen::internal::packet_traits<float>::size;
  Packet sums[] = {(static_cast<void>(R), Eigen::internal::pset1<Packet>(0.0f))...};
  std::int64_t k = 0;
  for (; k + width <= b.cols; k += width) {
    const Packet x = Eigen::internal::ploadu<Packet>(a + k);
    ((sums[R] = Eigen::internal::pmadd(Eigen::internal::ploadu<Packet>(b.row(R) + k), x, sums[R])), ...);
  }
  float totals[] = {Eigen::internal::predux(sums[R])...};
  for (; k < b.cols; ++k) ((totals[R] += b.row(R)[k] * a[k]), ...);
  ((c[R] += alpha * totals[R]), ...);
}

/// A few rows of a: every tile of b is read once, and dotted with each row while it is in the cache.
inline void multiply_streamed(ConstMatrix a, WeightMatrix b, float alpha, Matrix c, Scratch scratch) {
  constexpr std::int64_t group = 8; // rows of b: enough independent sums to fill a processor's multipliers
  const std::int64_t depth_step = even_part(a.cols, gemm_stream_depth, 8);
  const std::int64_t col_step = gemm_depth * gemm_cols / depth_step / group * group;
  const auto decoded = scratch.take<float>(gemm_tile_floats(c.cols, a.cols));
  for (std::int64_t j = 0; j < c.cols; j += col_step) {
    const std::int64_t cols = std::min(col_step, c.cols - j);
    for (std::int64_t k = 0; k < a.cols; k += depth_step) {
      const std::int64_t depth = std::min(depth_step, a.cols - k);
      const ConstMatrix tile = float_tile(b.block(j, k, cols, depth), decoded);
      for (std::int64_t i = 0; i < c.rows; ++i) {
        std::int64_t r = 0;
        for (; r + group <= cols; r += group)
          dot_rows(std::make_index_sequence<group>(), tile.rows_from(r, group), a.row(i) + k, alpha,
                   c.row(i) + j + r);
        for (; r < cols; ++r)
          dot_rows(std::make_index_sequence<1>(), tile.rows_from(r, 1), a.row(i) + k, alpha,
                   c.row(i) + j + r);
      }
    }
  }
}

/// c [m, n] += alpha a [m, k] b [n, k]^T. Precondition: c overlaps neither a nor b.
inline void multiply_nt(ConstMatrix a, WeightMatrix b, float alpha, Matrix c, Scratch scratch) {
  assert(a.rows == c.rows && b.rows == c.cols && a.cols == b.cols && "multiply_nt: shapes [m,k] [n,k] [m,n]");
  if (c.rows == 0 || c.cols == 0 || a.cols == 0) return;
  if (c.rows <= gemm_few_rows) return multiply_streamed(a, b, alpha, c, scratch);
  multiply_packed<RightOperand::transposed>(a, b, alpha, c, scratch);
}
inline void multiply_nt(ConstMatrix a, ConstMatrix b, float alpha, Matrix c, Scratch scratch) {
  multiply_nt(a, as_weight(b), alpha, c, scratch);
}

/// c [m, n] += alpha a [m, k] b [k, n]. Precondition: c overlaps neither a nor b.
inline void multiply_nn(ConstMatrix a, WeightMatrix b, float alpha, Matrix c, Scratch scratch) {
  assert(a.rows == c.rows && b.cols == c.cols && a.cols == b.rows && "multiply_nn: shapes [m,k] [k,n] [m,n]");
  if (c.rows == 0 || c.cols == 0 || a.cols == 0) return;
  multiply_packed<RightOperand::plain>(a, b, alpha, c, scratch);
}
inline void multiply_nn(ConstMatrix a, ConstMatrix b, float alpha, Matrix c, Scratch scratch) {
  multiply_nn(a, as_weight(b), alpha, c, scratch);
}

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// What the side paths of kinds that read the base hold between products, for a few rows of x, and the two
// things that several of them put there: x through GLoRA's M, and the base's product. Cost: memory as
// `delta_room_bytes`. Threads share the products.
#pragma once

#include <tenon/kernels/delta_term.hpp>
#include <tenon/kernels/factored.hpp>
#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/workers.hpp>

#include <algorithm>
#include <cstdint>

namespace tenon::kernels {

inline constexpr std::int64_t delta_side_rows = 32; ///< of x, taken together where something is held for them

/// Of a DeltaSideRoom, for any term.
[[nodiscard]] constexpr std::int64_t delta_room_bytes(std::int64_t tile, std::int64_t out,
                                                      std::int64_t in) noexcept {
  return scratch_sum({4 * scratch_bytes<float>(tile * in), 2 * scratch_bytes<float>(tile * out),
                      scratch_bytes<float>(tile * delta_depth)});
}

/// What is held for a few rows of x.
struct DeltaSideRoom {
  Matrix mixed;        ///< [rows, in]
  Matrix gained;       ///< [rows, in]
  Matrix place;        ///< [rows, inputs] of one place of a convolution's kernel
  Matrix place_mixed;  ///< [rows, inputs]
  Matrix base_product; ///< [rows, out]
  Matrix change;       ///< [rows, out]
  float* thin;         ///< rows * delta_depth

  DeltaSideRoom(std::int64_t rows, std::int64_t out, std::int64_t in, std::int64_t inputs, Workers& workers)
      : mixed(take(rows, in, workers)), gained(take(rows, in, workers)), place(take(rows, inputs, workers)),
        place_mixed(take(rows, inputs, workers)), base_product(take(rows, out, workers)),
        change(take(rows, out, workers)), thin(workers.take<float>(rows * delta_depth).data()) {}
  static Matrix take(std::int64_t rows, std::int64_t cols, Workers& workers) {
    return {workers.take<float>(rows * cols).data(), rows, cols, cols};
  }
  [[nodiscard]] DeltaSideRoom rows_from_start(std::int64_t count) const noexcept {
    DeltaSideRoom part = *this;
    for (Matrix* each :
         {&part.mixed, &part.gained, &part.place, &part.place_mixed, &part.base_product, &part.change})
      each->rows = count;
    return part;
  }
};

inline void clear(Matrix m) noexcept {
  for (std::int64_t i = 0; i < m.rows; ++i) std::fill_n(m.row(i), m.cols, 0.0f);
}

/// room.mixed = x M^T of GLoRA; M works on the inputs of each place of a convolution's kernel by themselves.
inline void mix_inputs(const VectorKernels& kernels, ConstMatrix x, const DeltaTerm& term,
                       const DeltaSideRoom& room, const Workers& workers) {
  const Factored& m = term.of_weight;
  const std::int64_t places = term.cols_per_input;
  const std::int64_t inputs = room.place.cols;
  for (std::int64_t s = 0; s < places; ++s) {
    for (std::int64_t i = 0; i < x.rows; ++i)
      for (std::int64_t k = 0; k < inputs; ++k) room.place.row(i)[k] = x.row(i)[k * places + s];
    clear(room.place_mixed);
    if (!m.is_product()) multiply_nt(room.place, m.left, 1.0f, room.place_mixed, workers, kernels);
    for (std::int64_t r = 0; m.is_product() && r < m.left.cols; r += delta_depth) {
      const std::int64_t rank = std::min(delta_depth, m.left.cols - r);
      const Matrix thin{room.thin, x.rows, rank, rank};
      clear(thin);
      multiply_nt(room.place, m.right.block(r, 0, rank, inputs), 1.0f, thin, workers, kernels);
      multiply_nt(thin, m.left.block(0, r, inputs, rank), 1.0f, room.place_mixed, workers, kernels);
    }
    for (std::int64_t i = 0; i < x.rows; ++i)
      for (std::int64_t k = 0; k < inputs; ++k)
        room.mixed.row(i)[k * places + s] = room.place_mixed.row(i)[k];
  }
}

/// The base's product for these rows: the one that was given, or made again.
[[nodiscard]] inline ConstMatrix base_product_of(const VectorKernels& kernels, ConstMatrix x,
                                                 WeightMatrix base, const ConstMatrix* given,
                                                 std::int64_t first, const DeltaSideRoom& room,
                                                 const Workers& workers) {
  if (given != nullptr) return given->rows_from(first, x.rows);
  clear(room.base_product);
  multiply_nt(x, base, 1.0f, room.base_product, workers, kernels);
  return room.base_product;
}

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// The side path of an adapter of any kind: y += x Delta(W)^T, without a dense delta (delta_term.hpp). What is
// done:
// | term              | way                                                                              |
// |-------------------|----------------------------------------------------------------------------------|
// | plain, B A        | two thin products, as LoRA                                                       |
// | plain, stored     | one product                                                                      |
// | hadamard (LoHa)   | as of rank r1 r2; where that is more than forming it, strips of Delta, used once |
// | kronecker (LoKr)  | x as [q, d]: times second^T, then first times that                               |
// | W (*) first       | strips of Delta, used once                                                       |
// | W M (GLoRA)       | x M^T, then the base's product                                                   |
// | gains of rows     | those of x D^T, and of the base's product                                        |
// | gains of columns  | x with the gains, through D and through the base                                 |
// | rotation          | x rotated, through the base; or the base's product rotated                       |
// Kinds that need the base's product x W^T take a computed one, and otherwise make it again. Rows of x go
// through some at a time, where something is held for them; scratch as `delta_side_scratch_bytes`, for any
// term. Threads share outputs, rows of x or blocks; the bits are those of one. Nothing here allocates.
#pragma once

#include <tenon/kernels/delta_room.hpp>
#include <tenon/kernels/delta_rows.hpp>
#include <tenon/kernels/delta_term.hpp>
#include <tenon/kernels/factored.hpp>
#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/hadamard.hpp>
#include <tenon/kernels/kronecker.hpp>
#include <tenon/kernels/low_rank.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/rotation.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/workers.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// Scratch of `delta_add` for x [rows, in], y [rows, out] and any term, a thread. Grows with each of them.
[[nodiscard]] constexpr std::int64_t delta_side_scratch_bytes(std::int64_t rows, std::int64_t out,
                                                              std::int64_t in) noexcept {
  const std::int64_t tile = std::min(rows, delta_side_rows);
  const std::int64_t most = std::max({out, in, gemm_depth});
  const std::int64_t held = delta_room_bytes(tile, out, in);
  const std::int64_t strips =
      scratch_sum({scratch_bytes<float>(delta_strip_rows * in),
                   scratch_max({delta_rows_scratch_bytes(out, in), multiply_scratch_bytes(rows, out, in)})});
  return scratch_sum({held, scratch_max({strips, kronecker_scratch_bytes(out, in), hadamard_scratch_bytes,
                                         low_rank_scratch_bytes(rows, out, in),
                                         rotate_scratch_bytes(tile, std::max(out, in)),
                                         multiply_scratch_bytes(rows, most, most)})});
}

/// y += x Delta^T by strips of Delta: what has no factored form. Each strip serves all rows of x.
inline void add_by_strips(const VectorKernels& kernels, ConstMatrix x, WeightMatrix base,
                          const DeltaTerm& term, Matrix y, const Workers& workers) {
  workers.share(base.rows, delta_strip_rows, 2 * (x.rows + 64) * base.cols,
                [&](std::int64_t begin, std::int64_t total, Scratch scratch) {
                  const auto room = scratch.take<float>(delta_strip_rows * base.cols);
                  for (std::int64_t i = begin; i < begin + total; i += delta_strip_rows) {
                    const Matrix strip{room.data(), std::min(delta_strip_rows, begin + total - i), base.cols,
                                       base.cols};
                    std::fill_n(strip.data, strip.rows * strip.cols, 0.0f);
                    add_delta_rows(term, base, i, strip, scratch, kernels);
                    multiply_nt(x, strip, 1.0f, y.cols_from(i, strip.rows), scratch, kernels);
                  }
                });
}

/// y += alpha x P^T, P being what the factors of the term form.
inline void add_formed(const VectorKernels& kernels, ConstMatrix x, const DeltaTerm& term, float alpha,
                       Matrix y, const Workers& workers) {
  if (term.form == DeltaForm::plain && term.first.is_product()) {
    const LowRankTerm low_rank{.a = term.first.right, .b = term.first.left, .scale = alpha};
    low_rank_add(x, {&low_rank, 1}, y, workers, kernels);
  } else if (term.form == DeltaForm::plain) {
    multiply_nt(x, term.first.left, alpha, y, workers, kernels);
  } else if (term.form == DeltaForm::kronecker) {
    add_kronecker(kernels, x, term.first, term.second, alpha, y, workers);
  } else if (term.form == DeltaForm::hadamard) {
    add_hadamard(kernels, x, term.first, term.second, alpha, y, workers);
  }
}

/// y += x D^T + u (x (W + D)^T) by outputs, of which the first is `plain` times.
inline void add_with_row_gains(const VectorKernels& kernels, ConstMatrix x, WeightMatrix base,
                               const DeltaTerm& term, Matrix y, const ConstMatrix* given, std::int64_t first,
                               const DeltaSideRoom& room, const Workers& workers) {
  const bool has_change = term.form != DeltaForm::none || !term.of_weight.empty();
  if (has_change) clear(room.change);
  add_formed(kernels, x, term, term.scale, room.change, workers);
  if (!term.of_weight.empty()) {
    mix_inputs(kernels, x, term, room, workers);
    multiply_nt(room.mixed, base, term.scale, room.change, workers, kernels);
  }
  const ConstMatrix product = base_product_of(kernels, x, base, given, first, room, workers);
  for (std::int64_t i = 0; i < x.rows; ++i) {
    const float* const of_base = product.row(i);
    const float* const change = room.change.row(i);
    float* const to = y.row(i);
    for (std::int64_t j = 0; j < y.cols; ++j) {
      const float u = term.gains[j];
      to[j] += has_change ? term.plain * change[j] + u * (of_base[j] + change[j]) : u * of_base[j];
    }
  }
}

/// y += ((u x) W^T + ((u + plain) x) D^T, or without gains x (W M)^T and what else D has: the base is read
/// once.
inline void add_with_col_gains(const VectorKernels& kernels, ConstMatrix x, WeightMatrix base,
                               const DeltaTerm& term, Matrix y, const DeltaSideRoom& room,
                               const Workers& workers) {
  const bool has_gains = term.gain_axis == GainAxis::cols;
  for (std::int64_t i = 0; i < x.rows; ++i)
    for (std::int64_t k = 0; k < x.cols; ++k)
      room.gained.row(i)[k] = has_gains ? (term.gains[k] + term.plain) * x.row(i)[k] : x.row(i)[k];
  add_formed(kernels, room.gained, term, term.scale, y, workers);
  if (!term.of_weight.empty()) mix_inputs(kernels, room.gained, term, room, workers);
  for (std::int64_t i = 0; i < x.rows; ++i)
    for (std::int64_t k = 0; k < x.cols; ++k) {
      const float mixed = term.of_weight.empty() ? 0.0f : term.scale * room.mixed.row(i)[k];
      room.mixed.row(i)[k] = has_gains ? term.gains[k] * x.row(i)[k] + mixed : mixed;
    }
  multiply_nt(room.mixed, base, 1.0f, y, workers, kernels);
}

/// y += strength (x R(W)^T - x W^T): x R through the base, or R of the base's product.
inline void add_rotated(const VectorKernels& kernels, ConstMatrix x, WeightMatrix base, const DeltaTerm& term,
                        Matrix y, const ConstMatrix* given, std::int64_t first, const DeltaSideRoom& room,
                        const Workers& workers) {
  const Rotation& rotation = *term.rotation;
  const bool by_stage = rotation.strength == RotationStrength::stages;
  const float of_stage = by_stage ? term.strength : 1.0f;
  const float strength = by_stage ? 1.0f : term.strength;
  const bool is_of_cols = rotation.axis == RotatedAxis::cols;
  if (is_of_cols) {
    for (std::int64_t i = 0; i < x.rows; ++i) std::copy_n(x.row(i), x.cols, room.mixed.row(i));
    rotate(kernels, rotation, Turn::back, of_stage, 0, room.mixed, workers);
  }
  if (is_of_cols &&
      rotation.rescale == nullptr) { // the difference first: it loses nothing to the product's size
    for (std::int64_t i = 0; i < x.rows; ++i)
      for (std::int64_t k = 0; k < x.cols; ++k) room.mixed.row(i)[k] -= x.row(i)[k];
    return multiply_nt(room.mixed, base, strength, y, workers, kernels);
  }
  const ConstMatrix product = base_product_of(kernels, x, base, given, first, room, workers);
  if (is_of_cols) {
    clear(room.change);
    multiply_nt(room.mixed, base, 1.0f, room.change, workers, kernels);
  } else {
    for (std::int64_t i = 0; i < x.rows; ++i) std::copy_n(product.row(i), y.cols, room.change.row(i));
    rotate(kernels, rotation, Turn::forward, of_stage, 0, room.change, workers);
  }
  for (std::int64_t i = 0; i < x.rows; ++i)
    for (std::int64_t j = 0; j < y.cols; ++j) {
      const float rescale = rotation.rescale == nullptr ? 1.0f : rotation.rescale[j];
      y.row(i)[j] += strength * (rescale * room.change.row(i)[j] - product.row(i)[j]);
    }
}

/// y [rows, out] += x [rows, in] Delta(W)^T for W = `whole_base`. `base_product` is x W^T, without a bias, if
/// that is at hand; it may be y itself. Precondition: y overlaps nothing else.
inline void delta_add(ConstMatrix x, WeightMatrix whole_base, const DeltaTerm& term, Matrix y,
                      Workers workers, const ConstMatrix* base_product = nullptr,
                      const VectorKernels& kernels = vector_kernels()) {
  assert(x.cols == whole_base.cols && y.rows == x.rows && y.cols == whole_base.rows &&
         "delta_add: shapes [n,in] [out,in] [n,out]");
  WeightMatrix base = whole_base;
  ConstMatrix product{};
  if (term.rows != 0) { // some of the outputs
    base = whole_base.block(term.first_row, 0, term.rows, whole_base.cols);
    y = y.cols_from(term.first_row, term.rows);
    if (base_product != nullptr) {
      product = base_product->cols_from(term.first_row, term.rows);
      base_product = &product;
    }
  }
  const bool is_formed =
      term.rotation == nullptr && term.gain_axis == GainAxis::none && term.of_weight.empty();
  if (term.form == DeltaForm::of_elements ||
      (term.form == DeltaForm::hadamard && !is_hadamard_cheaper(term.first, term.second, x.rows))) {
    DeltaTerm whole = term;
    whole.first_row = whole.rows = 0;
    return add_by_strips(kernels, x, base, whole, y, workers);
  }
  if (is_formed) return add_formed(kernels, x, term, term.scale, y, workers);
  const DeltaSideRoom room(std::min(x.rows, delta_side_rows), base.rows, base.cols,
                           base.cols / term.cols_per_input, workers);
  for (std::int64_t i = 0; i < x.rows; i += delta_side_rows) {
    const ConstMatrix rows = x.rows_from(i, std::min(delta_side_rows, x.rows - i));
    const Matrix to = y.rows_from(i, rows.rows);
    const DeltaSideRoom part = room.rows_from_start(rows.rows);
    if (term.rotation != nullptr)
      add_rotated(kernels, rows, base, term, to, base_product, i, part, workers);
    else if (term.gain_axis == GainAxis::rows)
      add_with_row_gains(kernels, rows, base, term, to, base_product, i, part, workers);
    else
      add_with_col_gains(kernels, rows, base, term, to, part, workers);
  }
}

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// Some rows of Delta(W) (delta_term.hpp) added to floats: what a merge, DoRA's norms and the side paths
// without a factored form read instead of a dense delta. A row depends on the term and the weight alone, to
// the bit: not on which rows are asked for together. Cost of a row, in operations: rank * in for each product
// of two factors, in for the rest; a rotation of rows takes group * in and reads the weight's rows of its
// group, one of columns stages * b * in. Scratch as `delta_rows_scratch_bytes`. One thread.
#pragma once

#include <tenon/kernels/delta_term.hpp>
#include <tenon/kernels/factored.hpp>
#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/rotation.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/weight_tile.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>

namespace tenon::kernels {

inline constexpr std::int64_t delta_cols = 512; ///< columns of P taken together, for a product by elements

/// Scratch of `add_delta_rows` for a weight [out, in] and any term.
[[nodiscard]] constexpr std::int64_t delta_rows_scratch_bytes(std::int64_t out, std::int64_t in) noexcept {
  const std::int64_t strip = scratch_bytes<float>(delta_strip_rows * in);
  const std::int64_t tile = scratch_bytes<float>(delta_strip_rows * delta_cols);
  const std::int64_t product = strip_product_scratch_bytes(out, in);
  const std::int64_t change = scratch_sum(
      {scratch_max({2 * tile, 2 * strip + scratch_bytes<float>(delta_strip_rows * delta_depth)}), product});
  const std::int64_t of_rows = scratch_sum(
      {scratch_bytes<float>(delta_strip_rows * out), rotate_scratch_bytes(delta_strip_rows, out), product});
  const std::int64_t of_cols = scratch_sum({strip, rotate_scratch_bytes(delta_strip_rows, in)});
  return scratch_max({strip + change, of_rows, of_cols});
}

/// d += scale (first (*) second), rows from `first_row` on.
inline void add_hadamard_rows(const VectorKernels& kernels, const DeltaTerm& term, std::int64_t first_row,
                              Matrix d, Scratch scratch) {
  const auto one = scratch.take<float>(delta_strip_rows * delta_cols);
  const auto two = scratch.take<float>(delta_strip_rows * delta_cols);
  for (std::int64_t j = 0; j < d.cols; j += delta_cols) {
    const std::int64_t cols = std::min(delta_cols, d.cols - j);
    const Matrix x{one.data(), d.rows, cols, cols};
    const Matrix y{two.data(), d.rows, cols, cols};
    std::fill_n(x.data, x.rows * cols, 0.0f);
    std::fill_n(y.data, y.rows * cols, 0.0f);
    add_factored(kernels, term.first, first_row, j, 1.0f, x, scratch);
    add_factored(kernels, term.second, first_row, j, 1.0f, y, scratch);
    for (std::int64_t r = 0; r < d.rows; ++r)
      for (std::int64_t k = 0; k < cols; ++k) d.row(r)[j + k] += term.scale * (x.row(r)[k] * y.row(r)[k]);
  }
}

/// d += scale (W (*) first), rows of W from `first_row` on.
inline void add_of_elements_rows(const VectorKernels& kernels, const DeltaTerm& term, WeightMatrix base,
                                 std::int64_t first_row, Matrix d, Scratch scratch) {
  assert(term.first.rows() == base.rows && term.first.cols() == base.cols &&
         "of_elements: first is [out,in]");
  const auto room = scratch.take<float>(delta_strip_rows * delta_cols);
  for (std::int64_t j = 0; j < d.cols; j += delta_cols) {
    const std::int64_t cols = std::min(delta_cols, d.cols - j);
    const Matrix share{room.data(), d.rows, cols, cols};
    std::fill_n(share.data, share.rows * cols, 0.0f);
    add_factored(kernels, term.first, first_row, j, 1.0f, share, scratch);
    for (std::int64_t r = 0; r < d.rows; ++r)
      visit_row(kernels, base.block(first_row + r, j, 1, cols), 0,
                [&](std::int64_t at, std::int64_t count, const float* w) {
                  for (std::int64_t k = at; k < at + count; ++k)
                    d.row(r)[j + k] += term.scale * (w[k - at] * share.row(r)[k]);
                });
  }
}

/// d += scale (first (x) second), rows from `first_row` on: row i c + k has first[i][j] second[k][l] at j d +
/// l.
inline void add_kronecker_rows(const VectorKernels& kernels, const DeltaTerm& term, std::int64_t first_row,
                               Matrix d, Scratch scratch) {
  const std::int64_t inner_rows = term.second.rows();
  const std::int64_t inner_cols = term.second.cols();
  const Matrix outer{scratch.take<float>(term.first.cols()).data(), 1, term.first.cols(), term.first.cols()};
  const auto room = scratch.take<float>(delta_strip_rows * inner_cols);
  for (std::int64_t r = 0; r < d.rows;) {
    const std::int64_t i = (first_row + r) / inner_rows;
    const std::int64_t k = (first_row + r) % inner_rows;
    const Matrix inner{room.data(), std::min(d.rows - r, inner_rows - k), inner_cols, inner_cols};
    std::fill_n(outer.data, outer.cols, 0.0f);
    std::fill_n(inner.data, inner.rows * inner.cols, 0.0f);
    add_factored(kernels, term.first, i, 0, term.scale, outer, scratch);
    add_factored(kernels, term.second, k, 0, 1.0f, inner, scratch);
    for (std::int64_t at = 0; at < inner.rows; ++at)
      for (std::int64_t j = 0; j < outer.cols; ++j)
        for (std::int64_t l = 0; l < inner_cols; ++l)
          d.row(r + at)[j * inner_cols + l] += outer.data[j] * inner.row(at)[l];
    r += inner.rows;
  }
}

/// d += scale W M, rows of W from `first_row` on. The columns of one place of a convolution's kernel are
/// mixed among themselves.
inline void add_of_weight_rows(const VectorKernels& kernels, const DeltaTerm& term, WeightMatrix base,
                               std::int64_t first_row, Matrix d, Scratch scratch) {
  const std::int64_t places = term.cols_per_input;
  const std::int64_t inputs = base.cols / places;
  const Factored& m = term.of_weight;
  assert(m.rows() == inputs && m.cols() == inputs && "GLoRA: M is [inputs,inputs]");
  const Matrix w{scratch.take<float>(d.rows * inputs).data(), d.rows, inputs, inputs};
  const Matrix mixed{scratch.take<float>(d.rows * inputs).data(), d.rows, inputs, inputs};
  const auto room = scratch.take<float>(delta_strip_rows * delta_depth);
  for (std::int64_t s = 0; s < places; ++s) {
    for (std::int64_t r = 0; r < d.rows; ++r)
      visit_row(kernels, base, first_row + r, [&](std::int64_t j, std::int64_t count, const float* values) {
        for (std::int64_t k = (places + s - j % places) % places; k < count; k += places)
          w.row(r)[(j + k) / places] = values[k];
      });
    std::fill_n(mixed.data, mixed.rows * mixed.cols, 0.0f);
    if (!m.is_product()) multiply_nn(w, m.left, term.scale, mixed, scratch, kernels);
    for (std::int64_t k = 0; m.is_product() && k < m.left.cols; k += delta_depth) {
      const std::int64_t depth = std::min(delta_depth, m.left.cols - k);
      const Matrix thin{room.data(), d.rows, depth, depth};
      std::fill_n(thin.data, thin.rows * depth, 0.0f);
      multiply_nn(w, m.left.block(0, k, inputs, depth), 1.0f, thin, scratch, kernels);
      multiply_nn(thin, m.right.block(k, 0, depth, inputs), term.scale, mixed, scratch, kernels);
    }
    for (std::int64_t r = 0; r < d.rows; ++r)
      for (std::int64_t k = 0; k < inputs; ++k) d.row(r)[k * places + s] += mixed.row(r)[k];
  }
}

/// d += D = scale (P + W M), without gains.
inline void add_change_rows(const VectorKernels& kernels, const DeltaTerm& term, WeightMatrix base,
                            std::int64_t first_row, Matrix d, Scratch scratch) {
  if (term.form == DeltaForm::plain) add_factored(kernels, term.first, first_row, 0, term.scale, d, scratch);
  if (term.form == DeltaForm::hadamard) add_hadamard_rows(kernels, term, first_row, d, scratch);
  if (term.form == DeltaForm::kronecker) add_kronecker_rows(kernels, term, first_row, d, scratch);
  if (term.form == DeltaForm::of_elements) add_of_elements_rows(kernels, term, base, first_row, d, scratch);
  if (!term.of_weight.empty()) add_of_weight_rows(kernels, term, base, first_row, d, scratch);
}

/// strip += u W + (u + plain) D.
inline void add_gained_rows(const VectorKernels& kernels, const DeltaTerm& term, WeightMatrix base,
                            std::int64_t first_row, Matrix strip, Scratch scratch) {
  const bool has_change = term.form != DeltaForm::none || !term.of_weight.empty();
  const Matrix d{has_change ? scratch.take<float>(strip.rows * strip.cols).data() : nullptr, strip.rows,
                 strip.cols, strip.cols};
  if (has_change) {
    std::fill_n(d.data, d.rows * d.cols, 0.0f);
    add_change_rows(kernels, term, base, first_row, d, scratch);
  }
  for (std::int64_t r = 0; r < strip.rows; ++r) {
    float* const to = strip.row(r);
    const float* const change = has_change ? d.row(r) : nullptr;
    visit_row(kernels, base, first_row + r, [&](std::int64_t j, std::int64_t count, const float* w) {
      for (std::int64_t k = 0; k < count; ++k) {
        const float u = term.gains[term.gain_axis == GainAxis::rows ? first_row + r : j + k];
        to[j + k] += has_change ? u * w[k] + (u + term.plain) * change[j + k] : u * w[k];
      }
    });
  }
}

/// strip += strength (R W - W), or of R at each stage. Row i is a sum of the rows of its group: c W with c =
/// e_i^T R, from which e_i is taken before W is read, so that what stays of W is rounded once.
inline void add_rotated_rows(const VectorKernels& kernels, const DeltaTerm& term, WeightMatrix base,
                             std::int64_t first_row, Matrix strip, Scratch scratch) {
  const Rotation& rotation = *term.rotation;
  const bool by_stage = rotation.strength == RotationStrength::stages;
  const std::int64_t group = rotation.group();
  const auto room = scratch.take<float>(strip.rows * group);
  for (std::int64_t r = 0; r < strip.rows;) {
    const std::int64_t start = (first_row + r) / group * group;
    const Matrix c{room.data(), std::min(strip.rows - r, start + group - first_row - r), group, group};
    std::fill_n(c.data, c.rows * group, 0.0f);
    for (std::int64_t i = 0; i < c.rows; ++i) c.row(i)[first_row + r + i - start] = 1.0f;
    rotate(kernels, rotation, Turn::back, by_stage ? term.strength : 1.0f, start, c, scratch);
    for (std::int64_t i = 0; i < c.rows; ++i) {
      if (rotation.rescale != nullptr)
        for (std::int64_t k = 0; k < group; ++k) c.row(i)[k] *= rotation.rescale[first_row + r + i];
      c.row(i)[first_row + r + i - start] -= 1.0f;
    }
    multiply_nn(c, base.block(start, 0, group, base.cols), by_stage ? 1.0f : term.strength,
                strip.rows_from(r, c.rows), scratch, kernels);
    r += c.rows;
  }
}

/// The same for a rotation of columns: strength (W R^T - W).
inline void add_rotated_cols(const VectorKernels& kernels, const DeltaTerm& term, WeightMatrix base,
                             std::int64_t first_row, Matrix strip, Scratch scratch) {
  const Rotation& rotation = *term.rotation;
  const bool by_stage = rotation.strength == RotationStrength::stages;
  const float strength = by_stage ? 1.0f : term.strength;
  const Matrix v{scratch.take<float>(strip.rows * strip.cols).data(), strip.rows, strip.cols, strip.cols};
  decode_rows(kernels, base, first_row, v);
  rotate(kernels, rotation, Turn::forward, by_stage ? term.strength : 1.0f, 0, v, scratch);
  for (std::int64_t r = 0; r < strip.rows; ++r) {
    const float rescale = rotation.rescale == nullptr ? 1.0f : rotation.rescale[first_row + r];
    float* const to = strip.row(r);
    visit_row(kernels, base, first_row + r, [&](std::int64_t j, std::int64_t count, const float* w) {
      for (std::int64_t k = 0; k < count; ++k) to[j + k] += strength * (rescale * v.row(r)[j + k] - w[k]);
    });
  }
}

/// strip [count <= delta_strip_rows, in] += the rows of Delta(W) from `first` on, for W = `whole_base`.
inline void add_delta_rows(const DeltaTerm& term, WeightMatrix whole_base, std::int64_t first, Matrix strip,
                           Scratch scratch, const VectorKernels& kernels = vector_kernels()) {
  assert(strip.rows <= delta_strip_rows && strip.cols == whole_base.cols && first >= 0 &&
         first + strip.rows <= whole_base.rows && "add_delta_rows: a few rows of the weight, [count,in]");
  std::int64_t row = first;
  if (term.rows != 0) { // those of a part of the weight
    const std::int64_t begin = std::clamp<std::int64_t>(term.first_row - first, 0, strip.rows);
    const std::int64_t end = std::clamp<std::int64_t>(term.first_row + term.rows - first, begin, strip.rows);
    strip = strip.rows_from(begin, end - begin);
    row = first + begin - term.first_row;
    whole_base = whole_base.block(term.first_row, 0, term.rows, whole_base.cols);
  }
  if (strip.rows == 0) return;
  if (term.rotation != nullptr) {
    const bool is_of_rows = term.rotation->axis == RotatedAxis::rows;
    assert(term.rotation->size == (is_of_rows ? whole_base.rows : whole_base.cols) &&
           "a rotation has the size of its axis");
    if (is_of_rows)
      add_rotated_rows(kernels, term, whole_base, row, strip, scratch);
    else
      add_rotated_cols(kernels, term, whole_base, row, strip, scratch);
  } else if (term.gain_axis != GainAxis::none) {
    add_gained_rows(kernels, term, whole_base, row, strip, scratch);
  } else {
    add_change_rows(kernels, term, whole_base, row, strip, scratch);
  }
}

} // namespace tenon::kernels

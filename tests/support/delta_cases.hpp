// SPDX-License-Identifier: Apache-2.0
// Random terms of every kind, and their dense Delta(W) in float64 by the formula of delta_term.hpp, written
// plainly.
#pragma once

#include <tenon/kernels/delta_rows.hpp>
#include <tenon/kernels/delta_term.hpp>
#include <tenon/kernels/rotation.hpp>

#include <support/naive.hpp>
#include <support/random_cases.hpp>

#include <cmath>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace tenon::test {

using kernels::DeltaForm;
using kernels::DeltaTerm;
using kernels::Factored;
using kernels::GainAxis;

[[nodiscard]] inline Twin exact(const Factored& f) {
  if (!f.is_product()) return exact(f.left);
  Twin product(f.rows(), f.cols());
  add_product(product, 1, exact(f.left), exact(f.right));
  return product;
}

/// Dense R, from the stored blocks and the definition of the permutation: of each group of 2^i b places, the
/// second half's chunks of `unit` go between the first half's.
[[nodiscard]] inline Twin dense_rotation(const kernels::Rotation& rotation, double strength) {
  const std::int64_t n = rotation.size;
  const std::int64_t b = rotation.block;
  Twin all(n, n);
  for (std::int64_t i = 0; i < n; ++i) all.add(i, i, 1, 1);
  for (std::int64_t stage = 0; stage < rotation.stages; ++stage) {
    std::vector<std::int64_t> place(static_cast<std::size_t>(n)); // where P sends an element
    for (std::int64_t e = 0; e < n; ++e) {
      place[static_cast<std::size_t>(e)] = e;
      if (rotation.unit == 0) continue;
      const std::int64_t group = b << stage;
      const std::int64_t half = group / 2 / rotation.unit; // chunks
      const std::int64_t in_group = e % group;
      const std::int64_t which = in_group / (group / 2);
      const std::int64_t chunk = in_group / rotation.unit % half;
      place[static_cast<std::size_t>(e)] =
          e - in_group + (2 * chunk + which) * rotation.unit + in_group % rotation.unit;
    }
    Twin one(n, n);
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        const std::int64_t to = place[static_cast<std::size_t>(i)];
        const std::int64_t from = place[static_cast<std::size_t>(j)];
        double value = i == j ? 1 - strength : 0;
        if (to / b == from / b)
          value += strength * static_cast<double>(rotation.block_at(stage, to / b).row(to % b)[from % b]);
        if (value != 0) one.add(i, j, value, std::abs(value));
      }
    Twin product(n, n);
    add_product(product, 1, one, all);
    all = product;
  }
  return all;
}

/// Delta(W) of a term for all of `base`.
[[nodiscard]] inline Twin exact_delta(const DeltaTerm& term, kernels::WeightMatrix base) {
  if (term.rows != 0) {
    DeltaTerm whole = term;
    whole.rows = whole.first_row = 0;
    const Twin part = exact_delta(whole, base.block(term.first_row, 0, term.rows, base.cols));
    Twin all(base.rows, base.cols);
    for (std::int64_t i = 0; i < part.rows; ++i)
      for (std::int64_t j = 0; j < part.cols; ++j)
        all.add(term.first_row + i, j, part(i, j), part.size(i, j));
    return all;
  }
  const Twin w = exact(base);
  Twin delta(base.rows, base.cols);
  if (term.rotation != nullptr) {
    const kernels::Rotation& rotation = *term.rotation;
    const bool by_stage = rotation.strength == kernels::RotationStrength::stages;
    const double strength = by_stage ? 1.0 : static_cast<double>(term.strength);
    const Twin r = dense_rotation(rotation, by_stage ? static_cast<double>(term.strength) : 1.0);
    Twin rotated(base.rows, base.cols);
    if (rotation.axis == kernels::RotatedAxis::rows)
      add_product(rotated, 1, r, w);
    else
      add_product(rotated, 1, w, transposed(r));
    for (std::int64_t i = 0; i < w.rows; ++i)
      for (std::int64_t j = 0; j < w.cols; ++j) {
        const double rescale = rotation.rescale == nullptr ? 1.0 : static_cast<double>(rotation.rescale[i]);
        delta.add(i, j, strength * (rescale * rotated(i, j) - w(i, j)),
                  std::abs(strength) * (std::abs(rescale) * rotated.size(i, j) + w.size(i, j)));
      }
    return delta;
  }
  Twin d(base.rows, base.cols);
  const auto scale = static_cast<double>(term.scale);
  if (term.form == DeltaForm::plain) {
    const Twin p = exact(term.first);
    for (std::int64_t i = 0; i < d.rows; ++i)
      for (std::int64_t j = 0; j < d.cols; ++j) d.add(i, j, scale * p(i, j), std::abs(scale) * p.size(i, j));
  }
  if (term.form == DeltaForm::of_elements) {
    const Twin share = exact(term.first);
    for (std::int64_t i = 0; i < d.rows; ++i)
      for (std::int64_t j = 0; j < d.cols; ++j)
        d.add(i, j, scale * w(i, j) * share(i, j), std::abs(scale) * w.size(i, j) * share.size(i, j));
  }
  if (term.form == DeltaForm::hadamard || term.form == DeltaForm::kronecker) {
    const Twin one = exact(term.first);
    const Twin two = exact(term.second);
    for (std::int64_t i = 0; i < d.rows; ++i)
      for (std::int64_t j = 0; j < d.cols; ++j) {
        const bool is_kronecker = term.form == DeltaForm::kronecker;
        const std::int64_t r = is_kronecker ? i / two.rows : i, c = is_kronecker ? j / two.cols : j;
        const std::int64_t k = is_kronecker ? i % two.rows : i, l = is_kronecker ? j % two.cols : j;
        d.add(i, j, scale * one(r, c) * two(k, l), std::abs(scale) * one.size(r, c) * two.size(k, l));
      }
  }
  if (!term.of_weight.empty()) {
    const Twin m = exact(term.of_weight);
    const std::int64_t places = term.cols_per_input;
    for (std::int64_t i = 0; i < d.rows; ++i)
      for (std::int64_t j = 0; j < m.cols; ++j)
        for (std::int64_t s = 0; s < places; ++s) {
          double sum = 0, size = 0;
          for (std::int64_t k = 0; k < m.rows; ++k) {
            sum += w(i, k * places + s) * m(k, j);
            size += w.size(i, k * places + s) * m.size(k, j);
          }
          d.add(i, j * places + s, scale * sum, std::abs(scale) * size);
        }
  }
  for (std::int64_t i = 0; i < d.rows; ++i)
    for (std::int64_t j = 0; j < d.cols; ++j) {
      if (term.gain_axis == GainAxis::none) {
        delta.add(i, j, d(i, j), d.size(i, j));
        continue;
      }
      const auto u = static_cast<double>(term.gains[term.gain_axis == GainAxis::rows ? i : j]);
      const auto plain = static_cast<double>(term.plain);
      delta.add(i, j, u * w(i, j) + (u + plain) * d(i, j),
                std::abs(u) * w.size(i, j) + (std::abs(u) + std::abs(plain)) * d.size(i, j));
    }
  return delta;
}

/// How often a value may be rounded on its way into Delta: in the sums over the ranks, the inputs of W M, the
/// blocks of a rotation's stages; and some more for what is done to an element.
[[nodiscard]] inline double delta_roundings(const DeltaTerm& term, std::int64_t in) {
  std::int64_t n = 12;
  for (const Factored* f : {&term.first, &term.second, &term.of_weight})
    if (f->is_product()) n += f->left.cols + 2;
  if (!term.of_weight.empty()) n += in;
  if (term.rotation != nullptr)
    n += term.rotation->stages * (term.rotation->block + 3) + term.rotation->group();
  return static_cast<double>(n);
}

/// One term of each kind in turn, for a weight [out, in] of its own choice.
class DeltaCase {
 public:
  static constexpr int kinds = 10;

  explicit DeltaCase(std::uint64_t number) : random_(number), kind_(static_cast<int>(number % kinds)) {
    const bool has_gains = kind_ == 8 || random_.below(3) == 0;
    if (kind_ < 7 || kind_ == 9) factors();
    if (kind_ == 7) rotation();
    if (kind_ == 8) weight(random_.size(90, {1, 16, 32}), random_.size(600, {1, 31, 64, 513}));
    if (has_gains && kind_ != 7) gains();
    if (random_.below(4) == 0) window();
    base_.emplace_back(base_rows_, in, random_.dtype(), 77, random_.weight_place());
  }

  [[nodiscard]] const StoredMatrix& base() const { return base_.back(); }
  [[nodiscard]] std::string text() const {
    return concat("kind ", kind_, ", W ", base_rows_, " ", in, " ", dtype_name(base().view.dtype), ", gains ",
                  static_cast<int>(term.gain_axis), ", rows ", term.first_row, " ", term.rows);
  }

  DeltaTerm term{};
  std::int64_t out = 0, in = 0; ///< of the part of the weight that the term changes

 private:
  void weight(std::int64_t rows, std::int64_t cols) {
    base_rows_ = out = rows;
    in = cols;
  }
  DType factor_type() { return random_.dtype(); }
  const StoredMatrix& stored(std::int64_t rows, std::int64_t cols) {
    matrices_.emplace_back(rows, cols, factor_type(), matrices_.size() + 5, random_.weight_place());
    return matrices_.back();
  }
  Factored factored(std::int64_t rows, std::int64_t cols, bool is_product) {
    if (!is_product) return {.left = stored(rows, cols).view};
    const std::int64_t rank = random_.size(300, {1, 4, 16, 256});
    const StoredMatrix& left = stored(rows, rank);
    return {.left = left.view, .right = stored(rank, cols).view};
  }
  bool often() { return random_.below(3) != 0; }

  void factors() {
    term.scale = random_.factor();
    if (kind_ == 4 || kind_ == 5) {
      const std::int64_t p = random_.size(20, {1, 4, 8}), c = random_.size(9, {1, 4});
      const std::int64_t q = random_.size(20, {1, 4, 8}), d = random_.size(40, {1, 16, 33});
      weight(p * c, q * d);
      term.form = DeltaForm::kronecker;
      term.first = factored(p, q, kind_ == 5 && often());
      term.second = factored(c, d, often());
      return;
    }
    term.cols_per_input = kind_ == 6 && often() ? 1 + random_.below(9) : 1;
    const std::int64_t inputs = random_.size(term.cols_per_input == 1 ? 600 : 70, {1, 31, 64, 513});
    weight(random_.size(90, {1, 16, 17, 32}), inputs * term.cols_per_input);
    term.form = kind_ == 2 || kind_ == 3 ? DeltaForm::hadamard
                : kind_ == 9             ? DeltaForm::of_elements
                                         : DeltaForm::plain;
    term.first = factored(out, in, kind_ != 1);
    if (term.form == DeltaForm::hadamard) term.second = factored(out, in, kind_ == 2);
    if (kind_ != 6) return;
    term.of_weight = factored(inputs, inputs, often());
    if (!often()) term.form = DeltaForm::none;
  }
  void rotation() {
    rotation_.unit = random_.below(3);
    rotation_.stages = rotation_.unit == 0 ? 1 : 1 + random_.below(3);
    rotation_.block = rotation_.unit == 0 ? random_.size(40, {1, 8, 16}) : 2 * (1 + random_.below(6));
    if (rotation_.unit == 2) rotation_.unit = rotation_.block / 2;
    rotation_.size = rotation_.group() * (1 + random_.below(3));
    rotation_.stored = often() ? rotation_.size / rotation_.block : 1;
    rotation_.axis = random_.below(2) == 0 ? kernels::RotatedAxis::rows : kernels::RotatedAxis::cols;
    rotation_.strength =
        random_.below(2) == 0 ? kernels::RotationStrength::whole : kernels::RotationStrength::stages;
    const bool is_of_rows = rotation_.axis == kernels::RotatedAxis::rows;
    const std::int64_t other = random_.size(100, {1, 16, 33});
    weight(is_of_rows ? rotation_.size : other, is_of_rows ? other : rotation_.size);
    values_.emplace_back(numbers(rotation_.stages * rotation_.stored * rotation_.block * rotation_.block));
    rotation_.blocks = values_.back().data();
    if (often()) {
      values_.emplace_back(numbers(out));
      rotation_.rescale = values_.back().data();
    }
    term.rotation = &rotation_;
    term.strength = random_.below(2) == 0 ? 1.0f : random_.factor();
  }
  void gains() {
    term.gain_axis = random_.below(2) == 0 ? GainAxis::rows : GainAxis::cols;
    values_.emplace_back(numbers(term.gain_axis == GainAxis::rows ? out : in));
    term.gains = values_.back().data();
    term.plain = often() ? 1.0f : random_.factor();
  }
  void window() {
    term.first_row = random_.below(40);
    term.rows = out;
    base_rows_ = term.first_row + out + random_.below(20);
  }
  std::vector<float> numbers(std::int64_t n) {
    Numbers source(static_cast<std::uint64_t>(n));
    std::vector<float> list(static_cast<std::size_t>(n));
    for (float& each : list) each = source.next();
    return list;
  }

  RandomCase random_;
  int kind_;
  std::int64_t base_rows_ = 0;
  kernels::Rotation rotation_{};
  std::deque<StoredMatrix> matrices_{};
  std::deque<std::vector<float>> values_{};
  std::deque<StoredMatrix> base_{};
};

} // namespace tenon::test

// SPDX-License-Identifier: Apache-2.0
// Rotations from files' tensors, against each tool's own steps written out with dense float64 matrices.
#include <doctest/doctest.h>

#include <tenon/kernels/delta_rows.hpp>
#include <tenon/kernels/prepare_rotation.hpp>

#include <support/delta_cases.hpp>
#include <support/naive.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

/// Just enough algebra, written plainly.
struct Dense {
  Dense(std::int64_t row_count, std::int64_t col_count)
      : rows(row_count), cols(col_count), values(static_cast<std::size_t>(rows * cols)) {}
  static Dense identity(std::int64_t n) {
    Dense one(n, n);
    for (std::int64_t i = 0; i < n; ++i) one(i, i) = 1;
    return one;
  }
  double& operator()(std::int64_t i, std::int64_t j) {
    return values[static_cast<std::size_t>(i * cols + j)];
  }
  double operator()(std::int64_t i, std::int64_t j) const {
    return values[static_cast<std::size_t>(i * cols + j)];
  }
  [[nodiscard]] Dense transposed() const {
    Dense to(cols, rows);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) to(j, i) = (*this)(i, j);
    return to;
  }
  [[nodiscard]] double norm() const {
    double sum = 0;
    for (const double value : values) sum += value * value;
    return std::sqrt(sum);
  }
  std::int64_t rows;
  std::int64_t cols;
  std::vector<double> values;
};

/// a + factor b
Dense sum(Dense a, double factor, const Dense& b) {
  for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] += factor * b.values[i];
  return a;
}
Dense scaled(Dense a, double factor) {
  for (double& value : a.values) value *= factor;
  return a;
}
Dense product(const Dense& a, const Dense& b) {
  Dense c(a.rows, b.cols);
  for (std::int64_t i = 0; i < a.rows; ++i)
    for (std::int64_t k = 0; k < a.cols; ++k)
      for (std::int64_t j = 0; j < b.cols; ++j) c(i, j) += a(i, k) * b(k, j);
  return c;
}
/// Elimination with row pivots.
Dense inverse(Dense a) {
  Dense to = Dense::identity(a.rows);
  for (std::int64_t k = 0; k < a.rows; ++k) {
    std::int64_t best = k;
    for (std::int64_t i = k; i < a.rows; ++i)
      if (std::abs(a(i, k)) > std::abs(a(best, k))) best = i;
    for (std::int64_t j = 0; j < a.cols; ++j) {
      std::swap(a(k, j), a(best, j));
      std::swap(to(k, j), to(best, j));
    }
    for (std::int64_t i = 0; i < a.rows; ++i) {
      const double factor = i == k ? 1.0 - 1.0 / a(k, k) : a(i, k) / a(k, k);
      const Dense pivot = a;
      const Dense other = to;
      for (std::int64_t j = 0; j < a.cols; ++j) {
        a(i, j) -= factor * pivot(k, j);
        to(i, j) -= factor * other(k, j);
      }
    }
  }
  return to;
}

/// Block `number` of the stored tensors, as they are.
Dense stored_block(const RotationSource& source, const StoredMatrix& blocks, std::int64_t number) {
  const std::int64_t b = source.block;
  Dense x(b, b);
  for (std::int64_t i = 0, k = 0; i < b; ++i)
    for (std::int64_t j = 0; j < b; ++j) {
      if (source.form != RotationForm::peft_oft)
        x(i, j) = blocks(number, i * b + j);
      else if (j > i)
        x(i, j) = blocks(number, k++);
    }
  return x;
}

std::vector<Dense> skew_blocks(const RotationSource& source, const StoredMatrix& blocks) {
  std::vector<Dense> list;
  double squares = 0;
  for (std::int64_t i = 0; i < source.blocks.rows; ++i) {
    const Dense x = stored_block(source, blocks, i);
    list.push_back(scaled(sum(x, -1, x.transposed()), source.form == RotationForm::peft_boft ? 0.5 : 1.0));
    squares += list.back().norm() * list.back().norm();
  }
  const double norm = std::sqrt(squares);
  const double most = source.alpha * static_cast<double>(source.size);
  for (Dense& q : list) {
    if (source.form == RotationForm::kohya_oft) q = scaled(q, (std::min(norm, most) + 1e-8) / (norm + 1e-8));
    if ((source.form == RotationForm::lycoris_oft || source.form == RotationForm::lycoris_boft) && most > 0 &&
        norm + 1e-8 > most)
      q = scaled(q, most / (norm + 1e-8));
    if (source.form == RotationForm::peft_oft && source.coft_eps > 0) {
      const double eps = source.coft_eps / std::sqrt(static_cast<double>(source.blocks.rows));
      if (q.norm() > eps) q = scaled(q, eps / q.norm());
    }
  }
  return list;
}

/// The dense matrix that a tool multiplies by: W' = R W (rows) or W'^T = R W^T (columns).
Dense dense_of(const RotationSource& source, const StoredMatrix& blocks, double strength) {
  const std::int64_t n = source.size;
  const std::int64_t b = source.block;
  const std::vector<Dense> skew = skew_blocks(source, blocks);
  const std::int64_t stored = source.blocks.rows / source.stages;
  const Dense one = Dense::identity(b);
  Dense all = Dense::identity(n);
  for (std::int64_t stage = 0; stage < source.stages; ++stage) {
    Dense diagonal(n, n);
    for (std::int64_t i = 0; i < n / b; ++i) {
      const Dense& q = skew[static_cast<std::size_t>(stage * stored + (stored == 1 ? 0 : i))];
      Dense r = one;
      if (source.form == RotationForm::peft_oft && source.neumann_terms > 0) {
        // by its num_cayley_neumann_terms: 1: I; 2: I + 2 Q; 3 and 4: I + 2 Q + 2 Q^2 + Q^3; 5: ... + 2 Q^3 +
        // Q^4
        const int terms = source.neumann_terms == 3 ? 4 : source.neumann_terms;
        Dense power = one;
        for (int k = 1; k < terms; ++k) {
          power = product(power, q);
          r = sum(r, k == terms - 1 && terms > 2 ? 1.0 : 2.0, power);
        }
      } else if (source.form == RotationForm::peft_oft || source.form == RotationForm::peft_boft) {
        r = product(sum(one, -1, q), inverse(sum(one, 1, q))); // X with X (I + Q) = I - Q
      } else {
        r = product(sum(one, 1, q), inverse(sum(one, -1, q)));
      }
      // kohya and LyCORIS sum over the first index of a block of OFT
      if (source.form == RotationForm::kohya_oft || source.form == RotationForm::lycoris_oft)
        r = r.transposed();
      const Dense blended = sum(scaled(one, 1 - strength), strength, r);
      for (std::int64_t k = 0; k < b; ++k)
        for (std::int64_t l = 0; l < b; ++l) diagonal(i * b + k, i * b + l) = blended(k, l);
    }
    Dense permutation = Dense::identity(n);
    if (source.form == RotationForm::lycoris_boft) { // (c g k) -> (c k g), k = 2^i b / 2
      permutation = Dense(n, n);
      const std::int64_t k = (std::int64_t{1} << stage) * b / 2;
      std::int64_t to = 0;
      for (std::int64_t c = 0; c < n / (2 * k); ++c)
        for (std::int64_t h = 0; h < k; ++h)
          for (std::int64_t g = 0; g < 2; ++g) permutation(to++, c * 2 * k + g * k + h) = 1;
    }
    if (source.form == RotationForm::peft_boft && source.stages > 1) {
      // a block's chunks of b / 2: the even ones first, then the odd ones; row i of P has a one at index i's
      permutation = Dense(n, n);
      const std::int64_t group = b << stage;
      for (std::int64_t start = 0; start < n; start += group) {
        std::vector<std::int64_t> order;
        for (std::int64_t first = 0; first < 2; ++first)
          for (std::int64_t chunk = first; chunk < group / (b / 2); chunk += 2)
            for (std::int64_t e = 0; e < b / 2; ++e) order.push_back(start + chunk * (b / 2) + e);
        for (std::size_t i = 0; i < order.size(); ++i)
          permutation(start + static_cast<std::int64_t>(i), order[i]) = 1;
      }
      permutation = permutation.transposed(); // the tool multiplies P B P^T, we P^T B P
    }
    all = product(product(permutation.transposed(), product(diagonal, permutation)), all);
  }
  return all;
}

struct Case {
  RotationForm form;
  std::int64_t block;
  std::int64_t count;
  std::int64_t stages = 1;
  double alpha = 0;
  double coft_eps = 0;
  int neumann_terms = 0;
  bool is_shared = false;
};

void check(const Case& each) {
  CAPTURE(static_cast<int>(each.form));
  CAPTURE(each.block);
  CAPTURE(each.count);
  CAPTURE(each.stages);
  CAPTURE(each.alpha);
  CAPTURE(each.neumann_terms);
  const std::int64_t size = each.block * each.count;
  const bool is_packed = each.form == RotationForm::peft_oft;
  const std::int64_t elements = is_packed ? each.block * (each.block - 1) / 2 : each.block * each.block;
  const bool is_of_cols = is_packed || each.form == RotationForm::peft_boft;
  for (const DType type : weight_dtypes)
    for (const float strength : {1.0f, 0.7f}) {
      const StoredMatrix blocks(each.stages * (each.is_shared ? 1 : each.count), elements, type, 3,
                                {.shift = 1});
      const StoredMatrix base(is_of_cols ? 19 : size, is_of_cols ? size : 21, DType::f32, 4);
      const StoredMatrix rescale(1, base.view.rows, type, 5);
      RotationSource source{.form = each.form,
                            .blocks = blocks.view,
                            .stages = each.stages,
                            .block = each.block,
                            .size = size,
                            .alpha = each.alpha,
                            .coft_eps = each.coft_eps,
                            .neumann_terms = each.neumann_terms};
      const bool has_rescale = each.form != RotationForm::kohya_oft && !is_packed && each.count % 2 == 0;
      if (has_rescale) source.rescale = rescale.vector();
      std::vector<float> prepared(static_cast<std::size_t>(rotation_floats(source)) + 1, -7.0f);
      const Rotation rotation = prepare_rotation(source, std::span(prepared).first(prepared.size() - 1));
      CHECK(prepared.back() == -7.0f);

      Dense w(base.view.rows, base.view.cols);
      for (std::int64_t i = 0; i < w.rows; ++i)
        for (std::int64_t j = 0; j < w.cols; ++j) w(i, j) = base(i, j);
      // kohya and LyCORIS blend each stage with I and rescale after that; PEFT knows no strength, and W' is
      // blended
      const double of_stage = is_of_cols ? 1.0 : static_cast<double>(strength);
      const Dense r = dense_of(source, blocks, of_stage);
      Dense changed = is_of_cols ? product(w, r.transposed()) : product(r, w);
      for (std::int64_t i = 0; has_rescale && i < w.rows; ++i)
        for (std::int64_t j = 0; j < w.cols; ++j) changed(i, j) *= rescale(0, i);
      const Dense delta = scaled(sum(changed, -1, w), is_of_cols ? static_cast<double>(strength) : 1.0);

      const DeltaTerm term{.rotation = &rotation, .strength = strength};
      const ExactScratch room(delta_rows_scratch_bytes(base.view.rows, base.view.cols));
      double worst = 0;
      for (std::int64_t i = 0; i < w.rows; ++i) {
        const FloatMatrix got(1, base.view.cols, 1);
        std::fill_n(got.view.row(0), got.view.cols, 0.0f);
        add_delta_rows(term, base.view, i, got.view, room.scratch());
        for (std::int64_t j = 0; j < w.cols; ++j) worst = std::max(worst, std::abs(got(0, j) - delta(i, j)));
      }
      // blocks rounded to float, and float sums over b, a stage: |R| rows have norm 1, so sums of |r w| are
      // below sqrt(b) |w|, |w| <= 1; Neumann's blocks are longer
      double length = 1;
      for (std::int64_t i = 0; i < size; ++i) {
        double row = 0;
        for (std::int64_t j = 0; j < size; ++j) row += std::abs(r(i, j));
        length = std::max(length, row);
      }
      CHECK(worst <= float_unit * length * static_cast<double>(each.stages * (each.block + 4) + size));

      if (each.neumann_terms == 0) { // each block is orthogonal, as far as floats go
        for (std::int64_t stage = 0; stage < each.stages; ++stage) {
          const ConstMatrix block = rotation.block_at(stage, 0);
          for (std::int64_t i = 0; i < each.block; ++i)
            for (std::int64_t j = 0; j < each.block; ++j) {
              double sum = 0;
              for (std::int64_t k = 0; k < each.block; ++k)
                sum += static_cast<double>(block.row(i)[k]) * static_cast<double>(block.row(j)[k]);
              CHECK(std::abs(sum - (i == j ? 1.0 : 0.0)) <= 2e-7 * static_cast<double>(each.block));
            }
        }
      }
    }
}

} // namespace

TEST_CASE("Rotations of every tool agree with its steps in float64") {
  for (const RotationForm form : {RotationForm::kohya_oft, RotationForm::lycoris_oft})
    for (const double alpha : {0.0, 1e-3, 0.05, 10.0})
      for (const auto& [block, count] :
           {std::pair<std::int64_t, std::int64_t>{1, 3}, {5, 4}, {16, 2}, {40, 1}})
        check({.form = form, .block = block, .count = count, .alpha = alpha});
  for (const double alpha : {0.0, 0.05})
    for (const auto& [block, count, stages] :
         {std::array<std::int64_t, 3>{4, 8, 1}, {4, 8, 2}, {4, 8, 4}, {6, 12, 3}, {2, 16, 5}, {10, 6, 2}})
      check({.form = RotationForm::lycoris_boft,
             .block = block,
             .count = count,
             .stages = stages,
             .alpha = alpha});
  for (const double coft : {0.0, 1e-2, 100.0})
    for (const int terms : {0, 1, 2, 3, 4, 5, 8})
      for (const bool is_shared : {false, true})
        check({.form = RotationForm::peft_oft,
               .block = 6,
               .count = 4,
               .coft_eps = coft,
               .neumann_terms = terms,
               .is_shared = is_shared});
  for (const auto& [block, count, stages] :
       {std::array<std::int64_t, 3>{5, 3, 1}, {4, 8, 1}, {4, 8, 2}, {4, 8, 3}, {6, 12, 2}, {2, 16, 4}})
    check({.form = RotationForm::peft_boft, .block = block, .count = count, .stages = stages});
}

TEST_CASE("Blocks that do not tile the axis are refused before anything is written") {
  const StoredMatrix blocks(4, 36, DType::f32, 1);
  std::vector<float> to(4 * 36, -7.0f);
  RotationSource source{.form = RotationForm::lycoris_oft, .blocks = blocks.view, .block = 6, .size = 25};
  CHECK_THROWS_WITH_AS(static_cast<void>(prepare_rotation(source, to)),
                       "rotation: expected 1 stages of 25 / 6 blocks, or of one for all, got 4 blocks; the "
                       "adapter is for a weight of another shape",
                       shape_error);
  source.block = 5;
  CHECK_THROWS_WITH_AS(
      static_cast<void>(prepare_rotation(source, to)),
      "rotation: expected 25 elements a block of 5 by 5, got 36; the adapter's file does not fit "
      "its configuration",
      shape_error);
  source = {.form = RotationForm::lycoris_boft, .blocks = blocks.view, .stages = 4, .block = 6, .size = 6};
  CHECK_THROWS_WITH_AS(
      static_cast<void>(prepare_rotation(source, to)),
      "rotation: expected groups of 6 * 2^3 positions to fill 6, with an even block if it has "
      "halves; the adapter is for a weight of another shape",
      shape_error);
  CHECK(std::count(to.begin(), to.end(), -7.0f) == 4 * 36);
}

// SPDX-License-Identifier: Apache-2.0
// A Linear with what is attached to its slot, on the host and on a device, and how far the two may be apart.
#pragma once

#include <tenon/layers/linear.hpp>

#include <support/device_step.hpp>
#include <support/naive.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <vector>

namespace tenon::test {

/// As a session's tables have it.
[[nodiscard]] inline TensorView tensor(const kernels::WeightMatrix& m) {
  TensorView view{};
  view.data = m.data;
  view.dtype = m.dtype;
  view.rank = 2;
  view.extents[0] = m.rows;
  view.extents[1] = m.cols;
  view.strides[0] = m.stride;
  view.strides[1] = 1;
  return view;
}

/// A Linear of [out, in] over x [rows, in], and what is attached to its slot.
struct LinearCase {
  FloatMatrix x;
  StoredMatrix w;
  std::optional<StoredMatrix> bias{};
  ActiveSlot slot{};
  std::deque<Factors> factors{};
  std::deque<StoredMatrix> values{};
  std::deque<std::vector<float>> gains{};
  std::deque<SideTerm> terms{};
  std::deque<SideBias> biases{};
  float scale_in_memory = 0;

  LinearCase(std::int64_t rows, std::int64_t out, std::int64_t in, DType dtype)
      : x(rows, in, 1), w(out, in, dtype, 2) {
    slot.weight = slot.base = tensor(w.view);
  }

  kernels::LowRankTerm& add_term(std::int64_t first_row, std::int64_t rows, std::int64_t rank, DType dtype,
                                 float scale) {
    const auto seed = static_cast<std::uint64_t>(10 * terms.size() + 100);
    terms.push_back({factors.emplace_back(rows, x.view.cols, rank, dtype, scale, seed).term});
    terms.back().term.first_row = first_row;
    slot.terms.add(terms.back());
    return terms.back().term;
  }
  [[nodiscard]] const float* gain(std::int64_t count) {
    Numbers numbers(static_cast<std::uint64_t>(count));
    std::vector<float>& all = gains.emplace_back();
    for (std::int64_t i = 0; i < count; ++i) all.push_back(numbers.next());
    return all.data();
  }
  void add_bias(kernels::BiasAction action, std::int64_t first, std::int64_t size, DType dtype) {
    const auto seed = static_cast<std::uint64_t>(values.size() + 50);
    const StoredMatrix& row = values.emplace_back(1, size, dtype, seed);
    biases.push_back({{.values = row.vector(), .scale = 0.75f, .action = action, .first = first}});
    slot.biases.add(biases.back());
  }

  /// y of a step, after `run(context)`.
  template <class Run>
  [[nodiscard]] FloatMatrix result(bool has_slot, const Run& run) const {
    FloatMatrix y(x.view.rows, w.view.rows, 9);
    for (std::int64_t i = 0; i < y.view.rows; ++i)
      for (float& value : y.view.row_span(i)) value = std::numeric_limits<float>::quiet_NaN();
    const auto wire = [](const kernels::Matrix& m) {
      WireView view{.data = reinterpret_cast<std::byte*>(m.data), .rank = 2};
      view.extents[0] = m.rows;
      view.extents[1] = m.cols;
      return view;
    };
    const WireView input = wire(x.view);
    std::array<TensorView, max_step_weights> weights{tensor(w.view)};
    if (bias.has_value()) {
      weights[1] = tensor(bias->view);
      weights[1].rank = 1;
      weights[1].extents[0] = w.view.rows;
      weights[1].strides[0] = 1;
    }
    StepContext context{.inputs = {&input, 1}, .output = wire(y.view), .weights = weights};
    if (has_slot) context.slot = &slot;
    run(context);
    return y;
  }
  [[nodiscard]] FloatMatrix on_device(bool has_slot = true) const {
    return result(has_slot, [](StepContext& context) {
      const std::int32_t fault = run_on_device("Linear", context);
      CHECK(fault == 0);
    });
  }
  [[nodiscard]] FloatMatrix on_host(bool has_slot = true) const {
    return result(has_slot, [&](StepContext& context) {
      std::vector<kernels::LowRankTerm> own; // a host reads a term's scale from the term
      for (const SideTerm& side : terms) own.push_back(side.term);
      context.has_deltas = true; // room for biases
      const ExactScratch room(has_slot ? linear_step_scratch<true>(context)
                                       : linear_step_scratch<false>(context));
      context.workers = room.scratch();
      has_slot ? linear_step<true>(context) : linear_step<false>(context);
    });
  }

  /// The sum of all magnitudes of each element of y, around the host's values.
  [[nodiscard]] Twin around(const FloatMatrix& host, bool has_slot) const {
    const auto size = [](const auto& m) {
      return [&m](std::int64_t i, std::int64_t k) { return std::abs(m(i, k)); };
    };
    Twin sizes(x.view.rows, w.view.rows);
    sizes.add_product(1, x.view.cols, size(x),
                      [&](std::int64_t k, std::int64_t j) { return std::abs(w(j, k)); });
    std::size_t t = 0;
    for (const SideTerm& side : terms) {
      if (!has_slot) break;
      const Factors& f = factors[t++];
      Twin shrunk(x.view.rows, f.a.view.rows);
      shrunk.add_product(1, x.view.cols, size(x),
                         [&](std::int64_t k, std::int64_t r) { return std::abs(f.a(r, k)); });
      const double scale = std::abs(
          static_cast<double>(side.term.scale_at != nullptr ? *side.term.scale_at : side.term.scale));
      for (std::int64_t i = 0; i < x.view.rows; ++i)
        for (std::int64_t j = 0; j < f.b.view.rows; ++j)
          for (std::int64_t r = 0; r < f.a.view.rows; ++r)
            sizes.add(i, side.term.first_row + j, 0, scale * shrunk(i, r) * std::abs(f.b(j, r)));
    }
    Twin twin(x.view.rows, w.view.rows);
    for (std::int64_t i = 0; i < twin.rows; ++i)
      for (std::int64_t j = 0; j < twin.cols; ++j) // 1 + 1 * 2 * 0.75 ... of the biases: at most 8
        twin.add(i, j, host(i, j),
                 sizes.value[static_cast<std::size_t>(i * twin.cols + j)] + sizes.size(i, j) + 8);
    return twin;
  }
  /// What rounding x, and what lies between a term's factors, to the weights' types may change, in units of 2^-24: half a
  /// spacing of each type.
  [[nodiscard]] double rounding(bool has_slot) const {
    if (!rounds_to_weights()) return 0;
    const auto of = [](DType type) {
      return type == DType::f32 ? 0.0 : std::ldexp(1.0, type == DType::f16 ? 24 - 12 : 24 - 9);
    };
    double most = of(w.view.dtype);
    for (const SideTerm& side : terms)
      if (has_slot) most = std::max(most, of(side.term.a.dtype) + of(side.term.b.dtype));
    return most * 1.01; // the product of two roundings
  }
  /// Both are sums of floats in some order: each has at most an error of a unit for each operation.
  void check(bool has_slot = true) const {
    const FloatMatrix host = on_host(has_slot);
    std::int64_t operations = x.view.cols + 8;
    for (const SideTerm& side : terms) operations += side.term.a.rows + x.view.cols;
    CHECK(error_in_units(on_device(has_slot).view, around(host, has_slot)) <=
          2 * static_cast<double>(operations) + rounding(has_slot));
  }
};

} // namespace tenon::test

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/gpu/host_products.hpp>
#include <tenon/gpu/linear.hpp>
#include <tenon/layers/linear.hpp>

#include <support/naive.hpp>
#include <support/random_cases.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

TensorView tensor(const kernels::WeightMatrix& m) {
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
      gpu::Queue queue;
      gpu::HostProducts products;
      const std::int64_t size = gpu::linear_step_scratch(context);
      PlacedBytes room(size + 256 + 64, 0); // dirty
      const auto address = reinterpret_cast<std::uintptr_t>(room.data());
      std::byte* const first = room.data() + (256 - address % 256) % 256;
      DeviceRun run{queue, products, {first, static_cast<std::size_t>(size)}};
      context.device = &run;
      gpu::linear_step(context);
      queue.wait();
      CHECK(queue.waits() == 1);
      CHECK(first[size] == std::byte{0xFF});
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
  /// Both are sums of floats in some order: each has at most an error of a unit for each operation.
  void check(bool has_slot = true) const {
    const FloatMatrix host = on_host(has_slot);
    std::int64_t operations = x.view.cols + 8;
    for (const SideTerm& side : terms) operations += side.term.a.rows + x.view.cols;
    CHECK(error_in_units(on_device(has_slot).view, around(host, has_slot)) <=
          2 * static_cast<double>(operations));
  }
};

} // namespace

TEST_CASE("A Linear on a device is the host's for each dtype, with a bias and without") {
  for (const DType dtype : weight_dtypes)
    for (const std::int64_t rows : {1, 9, 33})
      for (const bool has_bias : {false, true}) {
        INFO(dtype_name(dtype), " ", rows, " ", has_bias);
        LinearCase c(rows, 37, 45, dtype);
        if (has_bias) c.bias.emplace(1, 37, dtype, 4);
        c.check(false);
        c.check();
      }
}

TEST_CASE("A Linear on a device takes an overlay for its weight") {
  LinearCase c(5, 8, 6, f32);
  const StoredMatrix overlay(8, 6, f32, 77);
  c.slot.weight = tensor(overlay.view);
  c.slot.is_pristine = false;
  const FloatMatrix with = c.on_device();
  CHECK(same_bits(with.view, c.on_host().view));
  CHECK_FALSE(same_bits(with.view, c.on_device(false).view));
}

TEST_CASE("Side terms on a device, with windows and gains and scales in memory, are the host's") {
  for (std::uint64_t number = 0; number < 60; ++number) {
    RandomCase random(number);
    const std::int64_t out = random.size(90, {1, 16, 64});
    INFO(number, " ", out);
    LinearCase c(random.size(40, {1, 8}), out, random.size(70, {1, 32}), random.dtype());
    if (random.below(2) == 0) c.bias.emplace(1, out, random.dtype(), 4);
    for (std::int64_t t = random.size(5, {1}); t > 0; --t) {
      const std::int64_t first = random.below(2) == 0 ? 0 : random.below(out);
      const std::int64_t rows = random.below(2) == 0 ? out - first : 1 + random.below(out - first);
      kernels::LowRankTerm& term =
          c.add_term(first, rows, random.size(60, {1, 4, 16}), random.dtype(), random.factor());
      if (random.below(3) == 0) term.row_gain = c.gain(rows);
      if (random.below(3) == 0) term.rank_gain = c.gain(term.a.rows);
    }
    c.check();
  }
}

TEST_CASE("A rank beyond what is taken together goes in parts, and so do rows with gains") {
  LinearCase c(3, 5000, 20, bf16);
  kernels::LowRankTerm& term = c.add_term(2, 4990, gpu::side_rank + 37, bf16, 0.5f);
  c.check();
  term.row_gain = c.gain(4990);
  term.rank_gain = c.gain(gpu::side_rank + 37);
  CHECK(4990 * gpu::side_rank > gpu::gained_floats);
  c.check();
}

TEST_CASE("A scale in memory takes the place of a term's own") {
  LinearCase c(4, 12, 9, f32);
  kernels::LowRankTerm& term = c.add_term(0, 12, 3, f16, 0.25f);
  const FloatMatrix expected = c.on_device();
  c.scale_in_memory = 0.25f;
  term.scale_at = &c.scale_in_memory;
  term.scale = 1e9f;
  CHECK(same_bits(c.on_device().view, expected.view));
  c.scale_in_memory = 0.5f;
  CHECK_FALSE(same_bits(c.on_device().view, expected.view));
}

TEST_CASE("Changes of a bias on a device are the host's, with a bias of its own and without") {
  for (const DType dtype : weight_dtypes)
    for (const bool has_bias : {false, true}) {
      INFO(dtype_name(dtype), " ", has_bias);
      LinearCase c(7, 37, 20, f32);
      if (has_bias) c.bias.emplace(1, 37, dtype, 4);
      c.add_bias(kernels::BiasAction::add, 0, 37, dtype);
      c.add_bias(kernels::BiasAction::replace, 5, 20, f32);
      c.check();
      if (has_bias) c.add_bias(kernels::BiasAction::scale_by, 30, 7, dtype);
      c.add_term(0, 37, 4, bf16, 0.5f);
      c.check();
    }
}

TEST_CASE("A factor of a type that no device computes with is named") {
  LinearCase c(2, 3, 4, f32);
  c.add_term(0, 3, 2, f32, 1.0f);
  c.add_bias(kernels::BiasAction::add, 0, 3, f32);
  c.biases.back().term.values.dtype = DType::f8_e5m2;
  CHECK_THROWS_WITH_AS(static_cast<void>(c.on_device()),
                       "on a device: expected F32, F16 or BF16, got F8_E5M2", error);
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/weight_norms.hpp>

#include <support/allocation_probe.hpp>
#include <support/delta_cases.hpp>
#include <support/instruction_sets.hpp>
#include <support/naive.hpp>
#include <support/team.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

/// V = W + D with the norm of each row, or of each input's columns.
struct ExactNorms {
  ExactNorms(WeightMatrix w, const DeltaTerm& d, GainAxis axis, std::int64_t per_input) : v(exact(w)) {
    const Twin delta = exact_delta(d, w);
    for (std::int64_t i = 0; i < w.rows; ++i)
      for (std::int64_t j = 0; j < w.cols; ++j) v.add(i, j, delta(i, j), delta.size(i, j));
    const std::int64_t count = axis == GainAxis::rows ? w.rows : w.cols / per_input;
    norms.resize(static_cast<std::size_t>(count));
    sizes.resize(norms.size());
    for (std::int64_t i = 0; i < w.rows; ++i)
      for (std::int64_t j = 0; j < w.cols; ++j) {
        const auto at = static_cast<std::size_t>(axis == GainAxis::rows ? i : j / per_input);
        norms[at] += v(i, j) * v(i, j);
        sizes[at] += v.size(i, j) * v.size(i, j);
      }
    for (double& each : norms) each = std::sqrt(each);
    for (double& each : sizes) each = std::sqrt(each);
  }
  Twin v;
  std::vector<double> norms{};
  std::vector<double> sizes{}; ///< of the magnitudes: a norm's error is at most that of the vector
};

/// A weight of a convolution with a LoRA.
struct Layer {
  explicit Layer(DType type)
      : w(33, 12 * per_input, type, 1, {.shift = 2, .padding = 1}), b(33, 5, DType::bf16, 2),
        a(5, 12 * per_input, DType::f16, 3) {
    d = {.form = DeltaForm::plain, .scale = 0.4f, .first = {.left = b.view, .right = a.view}};
  }
  static constexpr std::int64_t per_input = 9;
  StoredMatrix w, b, a;
  DeltaTerm d{};
};

} // namespace

TEST_CASE("Norms of W + D agree with float64 for every kind of D and any number of threads") {
  for (std::uint64_t number = 0; number < 20 * DeltaCase::kinds; ++number) {
    const DeltaCase one(number + 70);
    if (one.term.rotation != nullptr || one.term.rows != 0) continue;
    DeltaTerm d = one.term;
    d.gain_axis = GainAxis::none;
    const WeightMatrix w = one.base().view;
    for (const GainAxis axis : {GainAxis::rows, GainAxis::cols}) {
      INFO("case ", number, ": ", one.text(), " axis ", static_cast<int>(axis));
      const ExactNorms exact_norms(w, d, axis, 1);
      for_each_instruction_set([&](const VectorKernels& kernels) {
        std::vector<float> norms(exact_norms.norms.size() + 1, -7.0f);
        const ExactScratch room(weight_norms_scratch_bytes(w.rows, w.cols));
        weight_norms(w, d, axis, 1, norms.data(), room.scratch(), kernels);
        CHECK((room.guard_untouched() && norms.back() == -7.0f));
        double worst = 0;
        for (std::size_t i = 0; i < exact_norms.norms.size(); ++i) {
          const double unit = float_unit * exact_norms.sizes[i] + 1e-30;
          const double error = std::abs(static_cast<double>(norms[i]) - exact_norms.norms[i]) / unit;
          if (!(error <= worst)) worst = error;
        }
        CHECK(worst <= delta_roundings(d, w.cols) + 3);
        Team team(3, weight_norms_scratch_bytes(w.rows, w.cols));
        std::vector<float> shared(norms.size(), -7.0f);
        weight_norms(w, d, axis, 1, shared.data(), team.workers, kernels);
        CHECK(shared == norms);
      });
    }
  }
}

TEST_CASE("DoRA's gains make the Delta of each policy, along rows and along a convolution's inputs") {
  for (const DType type : weight_dtypes)
    for (const GainAxis axis : {GainAxis::rows, GainAxis::cols})
      for (const DoraPolicy policy : {DoraPolicy::peft, DoraPolicy::lycoris, DoraPolicy::comfy})
        for (const float strength : {1.0f, 0.6f, -0.5f}) {
          CAPTURE(dtype_name(type));
          CAPTURE(static_cast<int>(axis));
          CAPTURE(static_cast<int>(policy));
          CAPTURE(strength);
          Layer layer(type);
          const WeightMatrix w = layer.w.view;
          if (policy == DoraPolicy::peft) layer.d.scale *= strength;
          const std::int64_t per_input = axis == GainAxis::rows ? 1 : Layer::per_input;
          const ExactNorms norms(w, layer.d, axis, per_input);
          const StoredMatrix magnitude(1, static_cast<std::int64_t>(norms.norms.size()), type, 8);
          std::vector<float> u(static_cast<std::size_t>(axis == GainAxis::rows ? w.rows : w.cols));
          const ExactScratch room(weight_norms_scratch_bytes(w.rows, w.cols));
          DeltaTerm term = layer.d;
          term.gain_axis = axis;
          term.gains = u.data();
          term.plain = fill_dora_gains(w, layer.d,
                                       {.axis = axis,
                                        .magnitude = magnitude.vector(),
                                        .policy = policy,
                                        .strength = strength,
                                        .cols_per_input = per_input},
                                       u.data(), room.scratch());
          CHECK(room.guard_untouched());
          // Delta by the policy's own words, from V, g and W
          const auto s = static_cast<double>(strength);
          const FloatMatrix got(w.rows, w.cols, 1);
          for (std::int64_t i = 0; i < w.rows; ++i) std::fill_n(got.view.row(i), w.cols, 0.0f);
          const ExactScratch strips(delta_rows_scratch_bytes(w.rows, w.cols));
          for (std::int64_t i = 0; i < w.rows; ++i)
            add_delta_rows(term, w, i, got.view.rows_from(i, 1), strips.scratch());
          double worst = 0;
          for (std::int64_t i = 0; i < w.rows; ++i)
            for (std::int64_t j = 0; j < w.cols; ++j) {
              const std::int64_t at = axis == GainAxis::rows ? i : j / per_input;
              const double added = policy == DoraPolicy::lycoris ? 0x1p-23 : 0.0;
              const double g = magnitude(0, at) / (norms.norms[static_cast<std::size_t>(at)] + added);
              const double v = norms.v(i, j);
              const double before = layer.w(i, j);
              const double wanted = policy == DoraPolicy::peft      ? g * v - before
                                    : policy == DoraPolicy::lycoris ? v * (s * (g - 1) + 1) - before
                                                                    : s * (g * v - before);
              const double size = (std::abs(g) + 2) * (norms.v.size(i, j) + std::abs(before));
              const double error = std::abs(got(i, j) - wanted) / (float_unit * size);
              if (!(error <= worst)) worst = error;
            }
          CHECK(worst <=
                delta_roundings(layer.d, w.cols) + 24); // those of the norm and of D, and of an element
        }
}

TEST_CASE("IA3's gains are of its factors or of its differences") {
  const StoredMatrix stored(1, 7, DType::f16, 1);
  std::vector<float> u(22, -7.0f);
  fill_ia3_gains(stored.vector(), Ia3Form::factor, 0.5f, 3, u.data());
  for (std::int64_t i = 0; i < 21; ++i)
    CHECK(u[static_cast<std::size_t>(i)] == 0.5f * (static_cast<float>(stored(0, i / 3)) - 1.0f));
  fill_ia3_gains(stored.vector(), Ia3Form::difference, 0.5f, 1, u.data());
  for (std::int64_t i = 0; i < 7; ++i)
    CHECK(u[static_cast<std::size_t>(i)] == 0.5f * static_cast<float>(stored(0, i)));
  CHECK(u.back() == -7.0f);
}

TEST_CASE("Norms and gains allocate nothing") {
  Layer layer(DType::bf16);
  const StoredMatrix magnitude(1, 12, DType::f32, 8);
  std::vector<float> u(12 * 9);
  const ExactScratch room(weight_norms_scratch_bytes(33, 12 * 9));
  const AllocationProbe probe;
  const float plain = fill_dora_gains(
      layer.w.view, layer.d, {.axis = GainAxis::cols, .magnitude = magnitude.vector(), .cols_per_input = 9},
      u.data(), room.scratch());
  const auto taken = probe.count();
  CHECK(taken == 0);
  CHECK(plain == 1.0f);
}

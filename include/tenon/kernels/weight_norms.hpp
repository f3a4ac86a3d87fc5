// SPDX-License-Identifier: Apache-2.0
// The gains u of DeltaTerm for the kinds that have them. DoRA (arXiv 2402.09353, equation 5) keeps directions
// and magnitudes apart: W' = g V with V = W + D and g = m / |V|, the norm over each row, or over all that
// each input feeds. IA3 (arXiv 2205.05638) is gains alone. Sums of squares are in double. Cost: one pass over
// W and one over D, made a strip at a time; scratch as `weight_norms_scratch_bytes`. Threads share the rows
// for norms of rows; norms of inputs take one.
#pragma once

#include <tenon/kernels/delta_rows.hpp>
#include <tenon/kernels/delta_term.hpp>
#include <tenon/kernels/factored.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/weight_tile.hpp>
#include <tenon/kernels/workers.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <limits>

namespace tenon::kernels {

/// What a strength other than 1 does to DoRA's W' at strength 1, and what is added to a norm.
enum class DoraPolicy : std::uint8_t {
  peft,    ///< it scales D, inside V and outside; nothing is added
  lycoris, ///< V (s (g - 1) + 1); 2^-23 is added to the norm (the epsilon of its floats)
  comfy,   ///< W + s (g V - W); nothing is added
};

struct DoraGains {
  GainAxis axis = GainAxis::rows;
  WeightVector magnitude{}; ///< m: [out], or [in / cols_per_input]
  DoraPolicy policy = DoraPolicy::peft;
  float strength = 1.0f; ///< the user's weight; with peft it is in D's scale already and not read here
  std::int64_t cols_per_input = 1; ///< of a convolution, kh * kw: they share one norm of an input
};

/// Scratch of `weight_norms` and `fill_dora_gains` for a weight [out, in], a thread.
[[nodiscard]] constexpr std::int64_t weight_norms_scratch_bytes(std::int64_t out, std::int64_t in) noexcept {
  return scratch_sum({scratch_bytes<float>(delta_strip_rows * in), scratch_bytes<double>(in),
                      delta_rows_scratch_bytes(out, in)});
}

/// The rows of V = W + D from `first` on. Precondition: `d` has neither gains nor a rotation.
inline void rows_of_sum(const VectorKernels& kernels, WeightMatrix w, const DeltaTerm& d, std::int64_t first,
                        Matrix v, Scratch scratch) {
  assert(d.gain_axis == GainAxis::none && d.rotation == nullptr && "norms are of W + D, before any gain");
  for (std::int64_t r = 0; r < v.rows; ++r) std::fill_n(v.row(r), v.cols, 0.0f);
  add_delta_rows(d, w, first, v, scratch, kernels); // D first: it loses nothing to the weight's size
  for (std::int64_t r = 0; r < v.rows; ++r)
    visit_row(kernels, w, first + r, [&](std::int64_t j, std::int64_t count, const float* values) {
      for (std::int64_t k = 0; k < count; ++k) v.row(r)[j + k] += values[k];
    });
}

/// norms = |V| of each row of V = W + D [out], or of each input's columns [in / cols_per_input].
inline void weight_norms(WeightMatrix w, const DeltaTerm& d, GainAxis axis, std::int64_t cols_per_input,
                         float* norms, Workers workers, const VectorKernels& kernels = vector_kernels()) {
  assert(axis != GainAxis::none && w.cols % cols_per_input == 0 && "weight_norms: of rows or of inputs");
  if (axis == GainAxis::rows) {
    workers.share(
        w.rows, delta_strip_rows, 32 * w.cols, [&](std::int64_t begin, std::int64_t total, Scratch scratch) {
          const auto room = scratch.take<float>(delta_strip_rows * w.cols);
          for (std::int64_t i = begin; i < begin + total; i += delta_strip_rows) {
            const Matrix v{room.data(), std::min(delta_strip_rows, begin + total - i), w.cols, w.cols};
            rows_of_sum(kernels, w, d, i, v, scratch);
            for (std::int64_t r = 0; r < v.rows; ++r) {
              double sum = 0;
              for (const float each : v.row_span(r))
                sum += static_cast<double>(each) * static_cast<double>(each);
              norms[i + r] = static_cast<float>(std::sqrt(sum));
            }
          }
        });
    return;
  }
  const std::int64_t inputs = w.cols / cols_per_input;
  const auto sums = workers.take<double>(inputs);
  const auto room = workers.take<float>(delta_strip_rows * w.cols);
  std::fill(sums.begin(), sums.end(), 0.0);
  for (std::int64_t i = 0; i < w.rows; i += delta_strip_rows) {
    const Matrix v{room.data(), std::min(delta_strip_rows, w.rows - i), w.cols, w.cols};
    rows_of_sum(kernels, w, d, i, v, workers.scratch());
    for (std::int64_t r = 0; r < v.rows; ++r)
      for (std::int64_t j = 0; j < v.cols; ++j) {
        const auto each = static_cast<double>(v.row(r)[j]);
        sums[static_cast<std::size_t>(j / cols_per_input)] += each * each;
      }
  }
  for (std::int64_t j = 0; j < inputs; ++j)
    norms[j] = static_cast<float>(std::sqrt(sums[static_cast<std::size_t>(j)]));
}

/// u [out], or [in], for a DeltaTerm that is `d` with these gains; returns its `plain`. Precondition: `d` has
/// no gains, and its scale has the strength with the policy peft, and not with others.
[[nodiscard]] inline float fill_dora_gains(WeightMatrix w, const DeltaTerm& d, const DoraGains& dora,
                                           float* u, Workers workers,
                                           const VectorKernels& kernels = vector_kernels()) {
  const bool is_of_rows = dora.axis == GainAxis::rows;
  const std::int64_t count = is_of_rows ? w.rows : w.cols / dora.cols_per_input;
  assert(dora.magnitude.size == count && "DoRA: a magnitude for each row, or for each input");
  weight_norms(w, d, dora.axis, dora.cols_per_input, u, workers, kernels);
  const double added =
      dora.policy == DoraPolicy::lycoris ? static_cast<double>(std::numeric_limits<float>::epsilon()) : 0.0;
  const double strength = dora.policy == DoraPolicy::peft ? 1.0 : static_cast<double>(dora.strength);
  const std::int64_t repeat = is_of_rows ? 1 : dora.cols_per_input;
  for (std::int64_t i = count - 1; i >= 0; --i) { // from the end: an input's columns lie behind its norm
    float magnitude = 0;
    decode(dora.magnitude.dtype, dora.magnitude.at(i), 1, &magnitude);
    const double gain = static_cast<double>(magnitude) / (static_cast<double>(u[i]) + added);
    std::fill_n(u + i * repeat, repeat, static_cast<float>(strength * (gain - 1.0)));
  }
  return dora.policy == DoraPolicy::comfy ? dora.strength : 1.0f;
}

/// What a stored vector of IA3 is.
enum class Ia3Form : std::uint8_t {
  factor,     ///< PEFT's ia3_l: W' = l W
  difference, ///< LyCORIS's weight: W' = (1 + w) W
};

/// u = strength (l - 1), or strength w: one for each of the vector's elements, each `repeat` times (a
/// convolution's inputs: kh * kw columns).
inline void fill_ia3_gains(WeightVector stored, Ia3Form form, float strength, std::int64_t repeat,
                           float* u) noexcept {
  for (std::int64_t i = 0; i < stored.size; ++i) {
    float value = 0;
    decode(stored.dtype, stored.at(i), 1, &value);
    std::fill_n(u + i * repeat, repeat, strength * (form == Ia3Form::factor ? value - 1.0f : value));
  }
}

} // namespace tenon::kernels

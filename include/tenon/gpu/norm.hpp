// SPDX-License-Identifier: Apache-2.0
// Normalisations of rows on a device: LayerNorm, AddNorm, RmsNorm (and of each head), L2Normalize, Softmax, with the
// formulas of kernels/norm.hpp and kernels/softmax.hpp. Mean and variance are two passes in double, as on the host: the
// passes wait for memory, not for sums. The output may be an input's buffer. Cost: three reads, one write; 8 bytes of
// scratch for each number of a bias, which adapters may change.
#pragma once

#include <tenon/gpu/bias_row.hpp>
#include <tenon/gpu/rows.hpp>
#include <tenon/gpu/step_weights.hpp>

#include <cmath>
#include <cstdint>
#include <limits>

namespace tenon::gpu {

/// A row, or the sum of two rounded to float.
struct RowSum {
  const float* a;
  const float* b; ///< null: none
  TENON_HD float operator[](std::int64_t j) const { return b == nullptr ? a[j] : a[j] + b[j]; }
  TENON_HD RowSum from(std::int64_t offset) const {
    return {a + offset, b == nullptr ? nullptr : b + offset};
  }
};

/// sum_j (x_j - centre)^2
template <class Team>
TENON_TEAM double sum_of_squares(const RowSum& x, std::int64_t width, double centre, const Team& team) {
  double sum = 0;
  for (std::int64_t j = team.lane(); j < width; j += team.lanes()) {
    const double d = static_cast<double>(x[j]) - centre;
    sum += d * d;
  }
  return team.sum(sum);
}

/// (x - mean) * inverse is the normalised row.
struct Moments {
  double mean;
  double inverse;
  TENON_HD float normalised(float x) const {
    return static_cast<float>((static_cast<double>(x) - mean) * inverse);
  }
};
template <class Team>
TENON_TEAM Moments moments(const RowSum& x, std::int64_t width, double eps, const Team& team) {
  double sum = 0;
  for (std::int64_t j = team.lane(); j < width; j += team.lanes()) sum += static_cast<double>(x[j]);
  const double mean = team.sum(sum) / static_cast<double>(width);
  const double variance = sum_of_squares(x, width, mean, team) / static_cast<double>(width);
  return {mean, 1.0 / std::sqrt(variance + eps)};
}

/// y = (x - mean) / sqrt(variance + eps) * gamma + beta
struct LayerNormRow {
  RowSum x;
  float* y;
  std::int64_t width;
  StoredVector gamma; ///< [width] or absent, as beta
  StoredVector beta;
  double eps;
  template <class Team>
  TENON_TEAM void operator()(std::int64_t row, const Team& team) const {
    const RowSum from = x.from(row * width);
    float* const to = y + row * width;
    const Moments of_row = moments(from, width, eps, team);
    for (std::int64_t j = team.lane(); j < width; j += team.lanes())
      to[j] = of_row.normalised(from[j]) * gamma.value(j, 1.0f) + beta.value(j, 0.0f);
  }
};

/// y = x / sqrt(mean of x^2 + eps) * gamma
struct RmsNormRow {
  const float* x;
  float* y;
  std::int64_t width;
  StoredVector gamma;
  double eps;
  template <class Team>
  TENON_TEAM void operator()(std::int64_t row, const Team& team) const {
    const RowSum from{x + row * width, nullptr};
    const double mean = sum_of_squares(from, width, 0.0, team) / static_cast<double>(width);
    const double inverse = 1.0 / std::sqrt(mean + eps);
    for (std::int64_t j = team.lane(); j < width; j += team.lanes())
      y[row * width + j] = static_cast<float>(static_cast<double>(from[j]) * inverse) * gamma.value(j, 1.0f);
  }
};

/// y = x / max(|x|, 1e-12)
struct L2NormalizeRow {
  const float* x;
  float* y;
  std::int64_t width;
  template <class Team>
  TENON_TEAM void operator()(std::int64_t row, const Team& team) const {
    const RowSum from{x + row * width, nullptr};
    const double length = std::sqrt(sum_of_squares(from, width, 0.0, team));
    const double inverse = 1.0 / (length < 1e-12 ? 1e-12 : length);
    for (std::int64_t j = team.lane(); j < width; j += team.lanes())
      y[row * width + j] = static_cast<float>(static_cast<double>(from[j]) * inverse);
  }
};

/// y = exp(x - max x) / sum of the same
struct SoftmaxRow {
  const float* x;
  float* y;
  std::int64_t width;
  template <class Team>
  TENON_TEAM void operator()(std::int64_t row, const Team& team) const {
    const float* const from = x + row * width;
    float* const to = y + row * width;
    float most = std::numeric_limits<float>::lowest();
    for (std::int64_t j = team.lane(); j < width; j += team.lanes()) most = std::fmax(most, from[j]);
    most = team.largest(most);
    double sum = 0;
    for (std::int64_t j = team.lane(); j < width; j += team.lanes()) {
      to[j] = std::exp(from[j] - most);
      sum += static_cast<double>(to[j]);
    }
    const auto inverse = static_cast<float>(1.0 / team.sum(sum));
    for (std::int64_t j = team.lane(); j < width; j += team.lanes()) to[j] *= inverse;
  }
};

/// The bias [d] of a step with weights {weight, bias}, with what is attached to its slot's, in the step's scratch.
[[nodiscard]] inline StoredVector norm_bias(const StepContext& context) {
  if (context.slot == nullptr || context.slot->biases.empty()) return StoredVector(weight_at(context, 1));
  const kernels::WeightVector made =
      bias_with_terms(context.device->queue, weight_vector(weight_at(context, 1)), context.slot->biases,
                      context.inputs[0].width(), DeviceScratch(context.device->scratch));
  return {made.data, made.dtype};
}
inline std::int64_t norm_bias_scratch(const StepContext& context) {
  return bias_scratch_bytes(context.inputs[0].width());
}

/// x, and where there are two, the sum of both [..., d], weight and bias [d] -> as x. params.reals[0]: epsilon.
inline void layer_norm_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const float* const added = context.inputs.size() > 1 ? context.inputs[1].values().data() : nullptr;
  for_each_row(context.device->queue, x.rows(), x.width(),
               LayerNormRow{{x.values().data(), added},
                            context.output.values().data(),
                            x.width(),
                            StoredVector(slot_weight(context, SideTerms::biases)),
                            norm_bias(context),
                            static_cast<double>(context.params.reals[0])});
}

/// params.integers[0]: numbers that are normalised together, of which a row of x has one or several runs; weight as many.
inline void rms_norm_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const std::int64_t width = context.params.integers[0];
  for_each_row(context.device->queue, x.size() / width, width,
               RmsNormRow{x.values().data(), context.output.values().data(), width,
                          StoredVector(slot_weight(context)), static_cast<double>(context.params.reals[0])});
}

/// Over the last dimension of x of any shape -> the same.
template <class Row>
void rows_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  for_each_row(context.device->queue, x.rows(), x.width(),
               Row{x.values().data(), context.output.values().data(), x.width()});
}

} // namespace tenon::gpu

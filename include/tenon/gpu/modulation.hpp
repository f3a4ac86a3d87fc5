// SPDX-License-Identifier: Apache-2.0
// Adaptive layer norm on a device (layers/modulation.hpp, kernels/modulation.hpp): ModulatedNorm, GatedAdd,
// AddModulationTable, AddPerSequence; and TimestepFeatures, which the modulation is made of. The output may be an
// input's buffer, but for the modulation's.
#pragma once

#include <tenon/gpu/norm.hpp>

#include <cmath>
#include <cstdint>

namespace tenon::gpu {

/// Rows that belong to one sequence.
[[nodiscard]] inline std::int64_t rows_per_sequence(const WireView& x) noexcept {
  return x.rows() / x.extent(0);
}

/// y = layer_norm(x) (1 + scale) + shift, scale and shift those of the row's sequence.
struct ModulatedNormRow {
  const float* x;
  float* y;
  std::int64_t width;
  std::int64_t rows; ///< of a sequence
  const float* scale;
  const float* shift;
  std::int64_t stride; ///< of scale and shift, from one sequence to the next
  double eps;
  template <class Team>
  TENON_TEAM void operator()(std::int64_t row, const Team& team) const {
    const RowSum from{x + row * width, nullptr};
    const std::int64_t at = row / rows * stride;
    const Moments of_row = moments(from, width, eps, team);
    for (std::int64_t j = team.lane(); j < width; j += team.lanes())
      y[row * width + j] = of_row.normalised(from[j]) * (1.0f + scale[at + j]) + shift[at + j];
  }
};

/// x [batch, ..., d], m [batch, parts * d] -> as x. params.integers: d, the part that is the scale, the shift;
/// reals: epsilon.
inline void modulated_norm_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const WireView& m = context.inputs[1];
  const auto& params = context.params.integers;
  const float* const parts = m.values().data();
  for_each_row(context.device->queue, x.rows(), x.width(),
               ModulatedNormRow{x.values().data(), context.output.values().data(), x.width(),
                                rows_per_sequence(x), parts + params[1] * params[0],
                                parts + params[2] * params[0], m.width(),
                                static_cast<double>(context.params.reals[0])});
}

/// y = x + gate z; without z: x + gate. The gate is that of the row's sequence.
struct GatedAddElement {
  const float* x;
  const float* z;
  const float* gate;
  std::int64_t stride;
  float* y;
  std::int64_t width;
  std::int64_t numbers; ///< of a sequence
  TENON_HD void operator()(std::int64_t i) const {
    const float g = gate[i / numbers * stride + i % width];
    y[i] = x[i] + (z == nullptr ? g : g * z[i]);
  }
};

/// x and z [batch, ..., d], m [batch, parts * d] -> as x. params.integers: d, the part that is the gate.
inline void gated_add_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const WireView& m = context.inputs[2];
  const auto& params = context.params.integers;
  for_each_index(context.device->queue, x.size(),
                 GatedAddElement{x.values().data(), context.inputs[1].values().data(),
                                 m.values().data() + params[1] * params[0], m.width(),
                                 context.output.values().data(), x.width(), x.size() / x.extent(0)});
}

/// x [batch, ..., d] + row [batch, d] -> as x.
inline void add_per_sequence_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  for_each_index(context.device->queue, x.size(),
                 GatedAddElement{x.values().data(), nullptr, context.inputs[1].values().data(), x.width(),
                                 context.output.values().data(), x.width(), x.size() / x.extent(0)});
}

struct AddModulationTableElement {
  const float* m;
  StoredVector table;
  float* y;
  std::int64_t given; ///< width of m
  std::int64_t width; ///< of y
  TENON_HD void operator()(std::int64_t i) const {
    y[i] = table[i % width] + m[i / width * given + i % width % given];
  }
};

/// m [batch, parts * d] or [batch, d], table [1, parts, d] -> [batch, parts * d].
inline void add_modulation_table_step(const StepContext& context) {
  const WireView& m = context.inputs[0];
  const WireView& y = context.output;
  for_each_index(context.device->queue, y.size(),
                 AddModulationTableElement{m.values().data(), StoredVector(context.weights[0]),
                                           y.values().data(), m.width(), y.width()});
}

/// Cosines, then sines of t * 10000^(-i / half), in double as on the host (layers/timestep.hpp).
struct TimestepFeatureElement {
  const float* t;
  float* y;
  std::int64_t half;
  double factor;
  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t pair = i % half;
    const double frequency =
        std::exp(-9.210340371976184 * static_cast<double>(pair) / static_cast<double>(half)); // ln 10000
    const double angle = static_cast<double>(t[i / half]) * factor * frequency;
    float* const to = y + i / half * 2 * half + pair;
    to[0] = static_cast<float>(std::cos(angle));
    to[half] = static_cast<float>(std::sin(angle));
  }
};

/// t [batch] or [batch, count] -> [batch, count * width]. params.integers[0]: width; reals: what t is multiplied by.
inline void timestep_features_step(const StepContext& context) {
  const WireView& t = context.inputs[0];
  const std::int64_t half = context.params.integers[0] / 2;
  for_each_index(context.device->queue, t.size() * half,
                 TimestepFeatureElement{t.values().data(), context.output.values().data(), half,
                                        static_cast<double>(context.params.reals[0])});
}

} // namespace tenon::gpu

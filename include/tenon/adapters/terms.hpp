// SPDX-License-Identifier: Apache-2.0
// From what an adapter holds for a slot to what a kernel takes, at a strength.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/kernels/gemm.hpp>

#include <algorithm>
#include <cstdint>

namespace tenon {

[[nodiscard]] inline kernels::LowRankTerm low_rank_term(const SlotFactors& factors,
                                                        double strength) noexcept {
  return {.a = factors.a,
          .b = factors.b,
          .scale = static_cast<float>(factors.scale * strength),
          .row_gain = factors.row_gain,
          .rank_gain = factors.rank_gain,
          .first_row = factors.first_row};
}

/// What a bias changes at a strength; a whole one takes the module's place whatever the strength, as PEFT has it.
[[nodiscard]] inline float bias_scale(const SlotBias& bias, double strength) noexcept {
  return bias.action == kernels::BiasAction::replace ? 1.0f : static_cast<float>(bias.scale * strength);
}

/// The term for the pristine weight `base`. W c, `bias.made_count()` floats, goes to `made` and is made here, with a
/// pass over its rows; scratch as `multiply_scratch_bytes(1, out, in)`.
[[nodiscard]] inline kernels::BiasTerm bias_term(const SlotBias& bias, double strength,
                                                 const kernels::WeightMatrix& base, float* made,
                                                 const kernels::Workers& workers) {
  kernels::WeightVector values = bias.values;
  if (bias.of_weight != nullptr) {
    std::fill_n(made, bias.rows, 0.0f);
    kernels::multiply_nt({bias.of_weight, 1, base.cols, base.cols},
                         base.block(bias.first_row, 0, bias.rows, base.cols), 1.0f,
                         {made, 1, bias.rows, bias.rows}, workers);
    values = {reinterpret_cast<const std::byte*>(made), DType::f32, bias.rows};
  }
  return {values, bias_scale(bias, strength), bias.action, bias.first_row};
}

/// The term of any other kind for the pristine weight `base`. Its gains, `delta.gain_count(...)` floats, go to
/// `u` and are made here: for DoRA with a pass over the weight.
[[nodiscard]] inline kernels::DeltaTerm delta_term(const SlotDelta& delta, double strength,
                                                   const kernels::WeightMatrix& base, float* u,
                                                   const kernels::Workers& workers) {
  kernels::DeltaTerm term = delta.term;
  const kernels::GainAxis axis = term.gain_axis;
  const auto weight = static_cast<float>(strength);
  term.gain_axis = kernels::GainAxis::none;
  term.scale = static_cast<float>(delta.scale * strength);
  term.strength = weight;
  switch (delta.gains) {
  case GainSource::none:
    return term;
  case GainSource::magnitude:
    if (delta.dora_strength != DoraStrength::peft) term.scale = static_cast<float>(delta.scale);
    term.plain = kernels::fill_dora_gains(base, term,
                                          {.axis = axis,
                                           .magnitude = delta.vector,
                                           .policy = delta.dora_strength,
                                           .strength = weight,
                                           .cols_per_input = delta.columns_per_gain},
                                          u, workers);
    break;
  case GainSource::factor:
    kernels::fill_ia3_gains(delta.vector, kernels::Ia3Form::factor, weight, delta.columns_per_gain, u);
    break;
  case GainSource::change:
    kernels::fill_ia3_gains(delta.vector, kernels::Ia3Form::difference, weight, delta.columns_per_gain, u);
    break;
  case GainSource::replace: // D - W, whatever the strength: as PEFT
    std::fill_n(u, delta.gain_count(base.rows, base.cols), -1.0f);
    term.plain = 2;
    term.scale = 1;
    break;
  }
  term.gain_axis = axis;
  term.gains = u;
  return term;
}

} // namespace tenon

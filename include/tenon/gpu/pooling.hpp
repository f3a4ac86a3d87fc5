// SPDX-License-Identifier: Apache-2.0
// MeanPool on a device: sum_t mask_t x_t / max(sum_t mask_t, 1e-9), as kernels/pooling.hpp, sums in double. An item is one
// number of the output; neighbours read neighbours.
#pragma once

#include <tenon/gpu/device_run.hpp>

#include <cstdint>

namespace tenon::gpu {

struct MeanPoolElement {
  const float* x;
  const float* mask; ///< null: all tokens
  float* y;
  std::int64_t tokens;
  std::int64_t width;
  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t sequence = i / width * tokens;
    double kept = 0;
    double sum = 0;
    for (std::int64_t t = sequence; t < sequence + tokens; ++t) {
      const double weight = mask == nullptr ? 1.0 : static_cast<double>(mask[t]);
      kept += weight;
      sum += static_cast<double>(x[t * width + i % width]) * weight;
    }
    y[i] = static_cast<float>(sum / (kept < 1e-9 ? 1e-9 : kept));
  }
};

/// x [batch, tokens, d] and, where given, a mask [batch, tokens] of 0 and 1 -> [batch, d].
inline void mean_pool_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const WireView& y = context.output;
  if (y.size() == 0) return;
  for_each_index(context.device->queue, y.size(),
                 MeanPoolElement{x.values().data(),
                                 context.inputs.size() > 1 ? context.inputs[1].values().data() : nullptr,
                                 y.values().data(), x.rows() / y.rows(), y.width()});
}

} // namespace tenon::gpu

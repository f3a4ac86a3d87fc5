// SPDX-License-Identifier: Apache-2.0
// Steps whose elements are computed one by one, on a device: the activations of layers/activations.hpp with the formulas of
// kernels/activations.hpp, Add, Multiply, Geglu, Copy. The output may be an input's buffer, but for Geglu. Cost: memory
// traffic.
#pragma once

#include <tenon/gpu/device_run.hpp>

#include <cmath>
#include <cstdint>

namespace tenon::gpu {

/// x Phi(x) = x erfc(-x / sqrt 2) / 2, which does not cancel in the tail.
struct GeluOf {
  TENON_HD float operator()(float x) const { return 0.5f * x * std::erfc(-0.707106781f * x); }
};
/// x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3), as x / (1 + exp(-2 u)).
struct GeluTanhOf {
  TENON_HD float operator()(float x) const {
    return x / (1.0f + std::exp(-1.59576912f * x * (1.0f + 0.044715f * (x * x))));
  }
};
struct QuickGeluOf {
  TENON_HD float operator()(float x) const { return x / (1.0f + std::exp(-1.702f * x)); }
};
struct ReluOf {
  TENON_HD float operator()(float x) const { return x < 0.0f ? 0.0f : x; } // a NaN stays one
};
struct SiluOf {
  TENON_HD float operator()(float x) const { return x / (1.0f + std::exp(-x)); }
};
struct TanhOf {
  TENON_HD float operator()(float x) const { return std::tanh(x); }
};
struct SumOf {
  TENON_HD float operator()(float a, float b) const { return a + b; }
};
struct ProductOf {
  TENON_HD float operator()(float a, float b) const { return a * b; }
};

/// y[i] = f(x[i])
template <class F>
struct MapOne {
  const float* x;
  float* y;
  TENON_HD void operator()(std::int64_t i) const { y[i] = F{}(x[i]); }
};
/// y[i] = f(a[i], b[i])
template <class F>
struct MapTwo {
  const float* a;
  const float* b;
  float* y;
  TENON_HD void operator()(std::int64_t i) const { y[i] = F{}(a[i], b[i]); }
};

/// x of any shape -> the same.
template <class F>
void map_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  for_each_index(context.device->queue, x.size(),
                 MapOne<F>{x.values().data(), context.output.values().data()});
}
/// Two wires of one shape -> the same.
template <class F>
void map_two_step(const StepContext& context) {
  const WireView& a = context.inputs[0];
  for_each_index(
      context.device->queue, a.size(),
      MapTwo<F>{a.values().data(), context.inputs[1].values().data(), context.output.values().data()});
}

/// y = a gelu(b) of rows [a | b], each `width` wide.
struct GegluElement {
  const float* x;
  float* y;
  std::int64_t width;
  TENON_HD void operator()(std::int64_t i) const {
    const float* const a = x + i / width * 2 * width + i % width;
    y[i] = a[0] * GeluOf{}(a[width]);
  }
};
/// [..., 2 d] -> [..., d] (Shazeer 2020, arXiv 2002.05202).
inline void geglu_step(const StepContext& context) {
  const WireView& y = context.output;
  for_each_index(context.device->queue, y.size(),
                 GegluElement{context.inputs[0].values().data(), y.values().data(), y.width()});
}

/// The same bytes, in the output's shape: what a loop begins with, and Flatten.
inline void copy_step(const StepContext& context) {
  const WireView& y = context.output;
  if (y.data != context.inputs[0].data) context.device->queue.copy(y.data, context.inputs[0].data, y.bytes());
}

} // namespace tenon::gpu

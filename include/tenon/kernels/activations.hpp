// SPDX-License-Identifier: Apache-2.0
// The element-wise activations of torch.nn.functional: relu, silu, tanh, and gelu in its three forms (Hendrycks
// and Gimpel, arXiv:1606.08415). Relative error at most 4e-7 for |x| <= 5, in the tail as well: gelu is
// computed from the small half of the normal distribution, so that 1 + erf never cancels. (gelu_tanh: 3e-6
// for |x| <= 5, its exponent being a rounded cubic; quick_gelu: 7e-7.) A NaN stays a NaN. Cost: at most one exp per element, in
// vectors; no scratch. x and y may be the same span. Any thread.
#pragma once

#include <tenon/kernels/lane_math.hpp>
#include <tenon/kernels/lanes.hpp>

#include <cassert>
#include <cmath>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// y = max(x, 0).
inline void relu(std::span<const float> x, std::span<float> y) {
  assert(x.size() == y.size() && "relu: one output per input");
  map_lanes(x, y, [](float* block, std::int64_t) {
    for (std::int64_t i = 0; i < lane_count; ++i) block[i] = block[i] < 0.0f ? 0.0f : block[i];
  });
}

/// y = x / (1 + exp(-x)), also called swish.
inline void silu(std::span<const float> x, std::span<float> y) {
  assert(x.size() == y.size() && "silu: one output per input");
  map_lanes(x, y, [](float* block, std::int64_t) {
    alignas(64) float e[lane_count];
    for (std::int64_t i = 0; i < lane_count; ++i) e[i] = -block[i];
    exp_lanes(e);
    for (std::int64_t i = 0; i < lane_count; ++i) block[i] /= 1.0f + e[i];
  });
}

/// y = x / (1 + exp(-1.702 x)): the approximation of gelu that CLIP was trained with.
inline void quick_gelu(std::span<const float> x, std::span<float> y) {
  assert(x.size() == y.size() && "quick_gelu: one output per input");
  map_lanes(x, y, [](float* block, std::int64_t) {
    alignas(64) float e[lane_count];
    for (std::int64_t i = 0; i < lane_count; ++i) e[i] = -1.702f * block[i];
    exp_lanes(e);
    for (std::int64_t i = 0; i < lane_count; ++i) block[i] /= 1.0f + e[i];
  });
}

/// y = tanh(x).
inline void tanh(std::span<const float> x, std::span<float> y) {
  assert(x.size() == y.size() && "tanh: one output per input");
  map_lanes(x, y, [](float* block, std::int64_t) { tanh_lanes(block); });
}

/// y = x Phi(x), Phi being the normal distribution function, (1 + erf(x / sqrt 2)) / 2; PyTorch's default
/// form. For a = |x|, Phi(-a) = exp(-a^2 / 2) g(a), where g(a) = exp(a^2 / 2) erfc(a / sqrt 2) / 2 is a
/// polynomial in t = 1 / (1 + 11 a / 32): our own fit of equal ripples on 0 <= a <= 14, relative
/// error 2.3e-8.
inline void gelu(std::span<const float> x, std::span<float> y) {
  assert(x.size() == y.size() && "gelu: one output per input");
  map_lanes(x, y, [](float* block, std::int64_t) {
    alignas(64) float a[lane_count];
    alignas(64) float e[lane_count];
    for (std::int64_t i = 0; i < lane_count; ++i) {
      const float size = std::fabs(block[i]);
      a[i] = size > 14.0f ? 14.0f : size;
      e[i] = -0.5f * (a[i] * a[i]);
    }
    exp_lanes(e);
    for (std::int64_t i = 0; i < lane_count; ++i) {
      const float t = 1.0f / (1.0f + 0.34375f * a[i]);
      float g = -0.0278093282f * t + 0.143849137f;
      g = g * t - 0.271714022f;
      g = g * t + 0.190921027f;
      g = g * t - 0.0393072206f;
      g = g * t + 0.112658016f;
      g = g * t + 0.116740448f;
      g = g * t + 0.137542278f;
      g = g * t + 0.137119672f;
      // x Phi(x) = max(x, 0) - |x| Phi(-|x|)
      block[i] = (0.5f * block[i] + 0.5f * std::fabs(block[i])) - a[i] * t * g * e[i];
    }
  });
}

/// y = x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3); BERT's and GPT-2's approximation of gelu,
/// as x / (1 + exp(-2 u)).
inline void gelu_tanh(std::span<const float> x, std::span<float> y) {
  assert(x.size() == y.size() && "gelu_tanh: one output per input");
  map_lanes(x, y, [](float* block, std::int64_t) {
    constexpr float minus_two_over_root = -1.59576912f; // -2 sqrt(2 / pi)
    alignas(64) float e[lane_count];
    for (std::int64_t i = 0; i < lane_count; ++i)
      e[i] = minus_two_over_root * block[i] * (1.0f + 0.044715f * (block[i] * block[i]));
    exp_lanes(e);
    for (std::int64_t i = 0; i < lane_count; ++i) block[i] /= 1.0f + e[i];
  });
}

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// How diffusion transformers let a time embedding steer each block (Peebles and Xie, arXiv:2212.09748): a layer norm
// without weights of its own whose scale and shift come from elsewhere, and a gate before a residual. In place allowed.
#pragma once

#include <tenon/kernels/norm.hpp>
#include <tenon/kernels/scratch.hpp>

#include <cassert>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// Scratch of `modulated_norm`.
[[nodiscard]] constexpr std::int64_t modulated_norm_scratch_bytes(std::int64_t width) noexcept {
  return scratch_bytes<float>(width);
}

[[nodiscard]] inline WeightVector float_vector(std::span<const float> values) noexcept {
  return {reinterpret_cast<const std::byte*>(values.data()), DType::f32, std::ssize(values)};
}

/// y = layer_norm(x) (1 + scale) + shift for each row; scale and shift [width].
inline void modulated_norm(ConstMatrix x, std::span<const float> scale, std::span<const float> shift,
                           double eps, Matrix y, Scratch scratch) {
  assert(std::ssize(scale) == x.cols && std::ssize(shift) == x.cols &&
         "modulated_norm: one number per column");
  const std::span<float> gain = scratch.take<float>(x.cols);
  for (std::size_t i = 0; i < gain.size(); ++i) gain[i] = 1.0f + scale[i];
  layer_norm(x, float_vector(gain), float_vector(shift), eps, y);
}

/// y = x + gate * z for each row; gate [width].
inline void gated_add(ConstMatrix x, ConstMatrix z, std::span<const float> gate, Matrix y) {
  assert(std::ssize(gate) == x.cols && z.cols == x.cols && z.rows == x.rows &&
         "gated_add: one number per column");
  for (std::int64_t i = 0; i < x.rows; ++i) {
    const float* const a = x.row(i);
    const float* const b = z.row(i);
    float* const to = y.row(i);
    for (std::int64_t j = 0; j < x.cols; ++j) to[j] = a[j] + gate[static_cast<std::size_t>(j)] * b[j];
  }
}

} // namespace tenon::kernels

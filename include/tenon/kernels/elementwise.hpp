// SPDX-License-Identifier: Apache-2.0
// Element-wise arithmetic on activations. Cost: memory traffic; no scratch. Any thread.
#pragma once

#include <tenon/kernels/lanes.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// y = f(a, b), `f` on blocks: it changes the first. y may be a or b.
template <class F>
void combine_lanes(std::span<const float> a, std::span<const float> b, std::span<float> y, F f) {
  assert(a.size() == b.size() && a.size() == y.size() && "one output per pair of inputs");
  alignas(64) float other[lane_count] = {};
  visit_lanes(a, 0.0f, [&](float* block, std::int64_t begin, std::int64_t count) {
    std::copy_n(b.data() + begin, count, other);
    f(block, static_cast<const float*>(other));
    std::copy_n(static_cast<const float*>(block), count, y.data() + begin);
  });
}

/// y = a + b. y may be a or b.
inline void add(std::span<const float> a, std::span<const float> b, std::span<float> y) {
  combine_lanes(a, b, y, [](float* block, const float* other) {
    for (std::int64_t i = 0; i < lane_count; ++i) block[i] += other[i];
  });
}

/// y = a * b, element by element. y may be a or b.
inline void multiply(std::span<const float> a, std::span<const float> b, std::span<float> y) {
  combine_lanes(a, b, y, [](float* block, const float* other) {
    for (std::int64_t i = 0; i < lane_count; ++i) block[i] *= other[i];
  });
}

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// A span in blocks of 64 floats, for element-wise kernels and reductions. Whole blocks and the padded last
// one go through the same code, in an aligned local block, so that a value depends neither on its position
// nor on the span's address, and a sum only on its length: sums are kept lane by lane and added up in a tree.
// Loops over the 64 lanes of a block become vector code at -O2. Cost: one extra copy of each element, inside
// the first-level cache. Any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::kernels {

inline constexpr std::int64_t lane_count = 64;

/// The sum of the lanes, by halves; overwrites them.
template <class T>
[[nodiscard]] T reduce_lanes(T* lanes) noexcept {
  for (std::int64_t n = lane_count / 2; n > 0; n /= 2)
    for (std::int64_t i = 0; i < n; ++i) lanes[i] += lanes[i + n];
  return lanes[0];
}

/// `f(block, begin, count)` for each block of `x`: 64 floats, of which the first `count` are `x[begin...]`
/// and the rest are `padding`.
template <class F>
void visit_lanes(std::span<const float> x, float padding, F f) {
  alignas(64) float block[lane_count];
  const auto size = static_cast<std::int64_t>(x.size());
  for (std::int64_t begin = 0; begin < size; begin += lane_count) {
    const std::int64_t count = std::min(lane_count, size - begin);
    if (count < lane_count) std::fill_n(block, lane_count, padding);
    std::copy_n(x.data() + begin, count, block);
    f(static_cast<float*>(block), begin, count);
  }
}

/// `y = f(x)` block by block: `f(block, begin)` changes the block in place. x and y may be the same span.
template <class F>
void map_lanes(std::span<const float> x, std::span<float> y, F f) {
  visit_lanes(x, 0.0f, [&](float* block, std::int64_t begin, std::int64_t count) {
    f(block, begin);
    std::copy_n(static_cast<const float*>(block), count, y.data() + begin);
  });
}

} // namespace tenon::kernels

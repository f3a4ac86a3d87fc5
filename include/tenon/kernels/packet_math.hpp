// SPDX-License-Identifier: Apache-2.0
// exp and tanh of a block of lanes, by Eigen's packet functions. Called directly, since Eigen's array expressions are
// instantiated anew in every translation unit, for the same instructions. Relative error: some float ulps.
#pragma once

#include <tenon/kernels/lanes.hpp>

#include <Eigen/Core>

namespace tenon::kernels {

/// `block[i] = f(block[i])` for whole vector registers; `block` is aligned as lanes are.
template <class F>
void map_packets(float* block, F f) {
  using Packet = Eigen::internal::packet_traits<float>::type;
  constexpr std::int64_t width = Eigen::internal::packet_traits<float>::size;
  static_assert(lane_count % width == 0);
  for (std::int64_t i = 0; i < lane_count; i += width)
    Eigen::internal::pstoreu(block + i, f(Eigen::internal::ploadu<Packet>(block + i)));
}

/// e^x; where that underflows, a small positive number rather than 0.
inline void exp_lanes(float* block) {
  map_packets(block, [](auto x) { return Eigen::internal::pexp(x); });
}

inline void tanh_lanes(float* block) {
  map_packets(block, [](auto x) { return Eigen::internal::ptanh(x); });
}

} // namespace tenon::kernels

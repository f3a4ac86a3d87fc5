// SPDX-License-Identifier: Apache-2.0
// Work on whole rows, for steps that sum over one: `for_each_row` gives each row to a team. On CUDA a team is a block of
// threads, which read neighbouring numbers together; elsewhere it is one thread, so that the same functor serves both. Sums
// are always added up in the same order.
#pragma once

#include <tenon/gpu/queue.hpp>

#include <algorithm>
#include <cstdint>

/// Before what only a team calls. (nvcc warns where a function for both machines calls one of the device's.)
#if TENON_ON_CUDA
#define TENON_TEAM __device__
#else
#define TENON_TEAM TENON_HD
#endif

namespace tenon::gpu {

/// Floats that a team has in common.
inline constexpr std::int64_t team_floats = 1024;

/// The team where a row is one thread's.
struct OneLane {
  float* shared; ///< [team_floats]

  TENON_TEAM std::int64_t lane() const { return 0; }
  TENON_TEAM std::int64_t lanes() const { return 1; }
  /// Of all lanes; each must call it, and gets the same.
  TENON_TEAM double sum(double x) const { return x; }
  TENON_TEAM float largest(float x) const { return x; }
  /// What any lane wrote before can be read by all.
  TENON_TEAM void meet() const {}
};

template <class F>
struct RowOfOneLane {
  F f;
  TENON_HD void operator()(std::int64_t row) const {
    float shared[team_floats];
    f(row, OneLane{shared});
  }
};

#if TENON_ON_CUDA
inline constexpr unsigned all_lanes = 0xffffffffu;

/// The team where a row is a block's: whole warps, at most 8.
struct Block {
  float* shared;
  double* of_warps; ///< [8], shared

  __device__ std::int64_t lane() const { return threadIdx.x; }
  __device__ std::int64_t lanes() const { return blockDim.x; }
  __device__ double sum(double x) const {
    for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(all_lanes, x, other);
    if (blockDim.x == 32) return x;
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
    __syncthreads();
    x = of_warps[0];
    for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) x += of_warps[warp];
    __syncthreads(); // before the next one writes there
    return x;
  }
  __device__ float largest(float x) const {
    for (int other = 16; other > 0; other /= 2) x = fmaxf(x, __shfl_xor_sync(all_lanes, x, other));
    if (blockDim.x == 32) return x;
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = static_cast<double>(x);
    __syncthreads();
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) x = fmaxf(x, static_cast<float>(of_warps[warp]));
    __syncthreads();
    return x;
  }
  __device__ void meet() const { __syncthreads(); }
};

template <class F>
__global__ void __launch_bounds__(256) rows_of_blocks(F f) {
  __shared__ float shared[team_floats];
  __shared__ double of_warps[8];
  f(static_cast<std::int64_t>(blockIdx.x), Block{shared, of_warps});
}
#endif

/// f(row, team) for rows 0 ... count - 1, in any order and at once, each of about `width` numbers. `F` is copied to the
/// device and has a `template <class Team> TENON_TEAM void operator()(std::int64_t, const Team&) const`.
template <class F>
void for_each_row(Queue& queue, std::int64_t count, [[maybe_unused]] std::int64_t width, const F& f) {
#if TENON_ON_CUDA
  if (count == 0) return;
  const auto threads = static_cast<unsigned>(std::clamp<std::int64_t>((width + 31) / 32 * 32, 32, 256));
  rows_of_blocks<<<static_cast<unsigned>(count), threads, 0, queue.stream()>>>(f);
  check_cuda(cudaGetLastError(), "start a step");
#else
  for_each_index(queue, count, RowOfOneLane<F>{f});
#endif
}

} // namespace tenon::gpu

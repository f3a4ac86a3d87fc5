// SPDX-License-Identifier: Apache-2.0
// A block of threads that share memory, for kernels that Thrust has no algorithm for. Such a kernel is a sequence of
// phases, with a barrier after each; on CUDA the phases are run by a block's threads, on the processor by one thread for
// each of them in turn, so that every index and every barrier is tested there.
#pragma once

#include <tenon/gpu/queue.hpp>
#include <tenon/gpu/system.hpp>

#include <cstdint>

namespace tenon::gpu {

inline constexpr int warp_size = 32;

// A block is a type with `threads`, the types `Thread` and `Warp` of what a thread and a warp keep between phases,
// `Shared` of what all of them share, and
//   template <class Team> TENON_HD void run(Team&, Shared&, std::int64_t block) const.

/// The block's threads one after the other.
template <class Block>
class ProcessorTeam {
 public:
  /// f(thread, own state), then a barrier.
  template <class F>
  TENON_HD void each_thread(F f) {
    for (int thread = 0; thread < Block::threads; ++thread) f(thread, threads_[thread]);
  }
  /// f(warp, its state) by all threads of the warp together, then a barrier.
  template <class F>
  TENON_HD void each_warp(F f) {
    for (int warp = 0; warp < Block::threads / warp_size; ++warp) f(warp, warps_[warp]);
  }

 private:
  typename Block::Thread threads_[Block::threads];
  typename Block::Warp warps_[Block::threads / warp_size];
};

/// Runs block `i`, alone.
template <class Block>
struct RunBlock {
  Block block;

  TENON_HD void operator()(std::int64_t i) const {
    ProcessorTeam<Block> team;
    typename Block::Shared shared;
    block.run(team, shared, i);
  }
};

#if TENON_ON_CUDA

/// The calling thread as one of its block's.
template <class Block>
class CudaTeam {
 public:
  template <class F>
  TENON_HD void each_thread([[maybe_unused]] F f) {
#if defined(__CUDA_ARCH__)
    f(static_cast<int>(threadIdx.x), thread_);
    __syncthreads();
#endif
  }
  template <class F>
  TENON_HD void each_warp([[maybe_unused]] F f) {
#if defined(__CUDA_ARCH__)
    f(static_cast<int>(threadIdx.x) / warp_size, warp_);
    __syncthreads();
#endif
  }

 private:
  typename Block::Thread thread_;
  typename Block::Warp warp_;
};

/// At least two blocks on a multiprocessor, so that one computes while the other waits for memory.
template <class Block>
__global__ void __launch_bounds__(Block::threads, 2) block_kernel(const __grid_constant__ Block block) {
  __shared__ typename Block::Shared shared;
  CudaTeam<Block> team;
  block.run(team, shared, static_cast<std::int64_t>(blockIdx.x));
}

#endif

/// Runs blocks 0 ... count - 1, in any order and at once. Precondition: count < 2^31.
template <class Block>
void for_each_block(Queue& queue, std::int64_t count, const Block& block) {
  if (count == 0) return;
#if TENON_ON_CUDA
  block_kernel<Block><<<static_cast<unsigned>(count), Block::threads, 0, queue.stream()>>>(block);
  check_cuda(cudaGetLastError(), "start a kernel");
#else
  for_each_index(queue, count, RunBlock<Block>{block});
#endif
}

} // namespace tenon::gpu

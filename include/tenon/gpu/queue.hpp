// SPDX-License-Identifier: Apache-2.0
// A queue: what is put on it runs in order, beside other queues. On CUDA a stream of its own, never the default one;
// elsewhere nothing waits, and all is done when the call returns. Nothing here waits for a device but `wait`, and
// every wait is counted.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/gpu/system.hpp>

#include <thrust/execution_policy.h>
#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#if TENON_ON_CUDA
#include <thrust/system/cuda/execution_policy.h>

#include <cuda_runtime_api.h>
#endif

namespace tenon::gpu {

#if TENON_ON_CUDA
/// Throws `error{device_failed}` with CUDA's own words unless `status` is a success; out of memory has its own code.
inline void check_cuda(cudaError_t status, std::string_view operation) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError()); // or the next call would report it again
  const ErrorCode code =
      status == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::device_failed;
  throw error(code, concat(operation, ": CUDA says \"", cudaGetErrorString(status), "\" (",
                           cudaGetErrorName(status), ")"));
}
#endif

class Queue {
 public:
#if TENON_ON_CUDA
  Queue() { check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "make a queue"); }
  ~Queue() { static_cast<void>(cudaStreamDestroy(stream_)); }
  [[nodiscard]] cudaStream_t stream() const noexcept { return stream_; }
  /// Of a Thrust algorithm that returns without waiting.
  [[nodiscard]] auto policy() const { return thrust::cuda::par_nosync.on(stream_); }
#else
  Queue() = default;
  ~Queue() = default;
  [[nodiscard]] auto policy() const { return thrust::device; }
#endif
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  /// Returns when all that was put on it is done. Throws `error{device_failed}`.
  void wait() {
    ++waits_;
#if TENON_ON_CUDA
    check_cuda(cudaStreamSynchronize(stream_), "wait for the device");
#endif
  }
  /// How often the calling thread waited for it.
  [[nodiscard]] std::int64_t waits() const noexcept { return waits_; }

  /// Bytes from device or pinned host memory to device or pinned host memory, in order with the rest.
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes) {
    if (bytes == 0) return;
#if TENON_ON_CUDA
    check_cuda(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault, stream_),
               "copy");
#else
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
#endif
  }
  /// Zeros.
  void clear(std::byte* to, std::int64_t bytes) {
    if (bytes == 0) return;
#if TENON_ON_CUDA
    check_cuda(cudaMemsetAsync(to, 0, static_cast<std::size_t>(bytes), stream_), "clear");
#else
    std::memset(to, 0, static_cast<std::size_t>(bytes));
#endif
  }

 private:
#if TENON_ON_CUDA
  cudaStream_t stream_ = nullptr;
#endif
  std::int64_t waits_ = 0;
};

/// A place in a queue that another queue, or a thread, can wait for.
class Mark {
 public:
#if TENON_ON_CUDA
  Mark() { check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "make a mark"); }
  ~Mark() { static_cast<void>(cudaEventDestroy(event_)); }
  void set(const Queue& queue) { check_cuda(cudaEventRecord(event_, queue.stream()), "set a mark"); }
  /// What is put on `queue` from now on runs after what stood before the mark. No thread waits.
  void go_before(const Queue& queue) const {
    check_cuda(cudaStreamWaitEvent(queue.stream(), event_, 0), "wait for another queue");
  }
  [[nodiscard]] bool is_reached() const { return cudaEventQuery(event_) == cudaSuccess; }
  void wait() const { check_cuda(cudaEventSynchronize(event_), "wait for a mark"); }
#else
  Mark() = default;
  ~Mark() = default;
  void set(const Queue&) {}
  void go_before(const Queue&) const {}
  [[nodiscard]] bool is_reached() const { return true; }
  void wait() const {}
#endif
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;

 private:
#if TENON_ON_CUDA
  cudaEvent_t event_ = nullptr;
#endif
};

/// f(i) for i in 0 ... count - 1, in any order and at once. `F` is copied to the device and has a
/// `TENON_HD void operator()(std::int64_t) const`.
template <class F>
void for_each_index(Queue& queue, std::int64_t count, const F& f) {
  if (count == 0) return;
  thrust::for_each_n(queue.policy(), thrust::counting_iterator<std::int64_t>(0), count, f);
}

} // namespace tenon::gpu

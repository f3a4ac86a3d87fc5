// SPDX-License-Identifier: Apache-2.0
// Where a device's bytes come from: plain device allocations, never managed memory. As a MemorySource for Tenon's
// buffers, and as a Thrust memory resource that enters what it gives in a ledger, within its budget, for containers.
#pragma once

#include <tenon/gpu/queue.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/session/device.hpp>

#include <thrust/device_allocator.h>
#include <thrust/device_vector.h>
#include <thrust/mr/allocator.h>
#include <thrust/mr/device_memory_resource.h>
#include <thrust/mr/memory_resource.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tenon::gpu {

/// Thrust's own for this system: cudaMalloc on CUDA.
using PlainResource = thrust::device_ptr_memory_resource<thrust::device_memory_resource>;

[[nodiscard]] inline PlainResource& plain_resource() {
  static thrust::device_memory_resource own;
  static PlainResource resource(&own);
  return resource;
}

inline void* take_device_memory(std::size_t bytes, void*) noexcept {
  try {
    return plain_resource().allocate(bytes, device_alignment).get();
  } catch (...) { // Thrust says std::bad_alloc; the buffer says what was asked for and what is held
#if TENON_ON_CUDA
    static_cast<void>(cudaGetLastError());
#endif
    return nullptr;
  }
}
inline void give_device_memory(void* block, std::size_t bytes, void*) noexcept {
  try {
    plain_resource().deallocate(thrust::device_ptr<void>(block), bytes, device_alignment);
  } catch (...) { // the driver is going down: there is nothing left to give back to
  }
}
/// `context` tells devices apart, and is not read.
[[nodiscard]] inline MemorySource device_memory_source(void* context = nullptr) noexcept {
  return {&take_device_memory, &give_device_memory, context};
}

#if TENON_ON_CUDA
inline void* take_pinned_memory(std::size_t bytes, void*) noexcept {
  void* block = nullptr;
  if (cudaHostAlloc(&block, bytes, cudaHostAllocDefault) == cudaSuccess) return block;
  static_cast<void>(cudaGetLastError());
  return nullptr;
}
inline void give_pinned_memory(void* block, std::size_t, void*) noexcept {
  static_cast<void>(cudaFreeHost(block));
}
#endif
/// Host memory that copies to and from a device at full speed.
[[nodiscard]] inline MemorySource pinned_memory_source() noexcept {
#if TENON_ON_CUDA
  return {&take_pinned_memory, &give_pinned_memory, nullptr};
#else
  return system_memory();
#endif
}

/// Gives device memory that stands in `ledger` under `category` as long as it is held. Throws `budget_error` and
/// `error{out_of_memory}`. The ledger must outlive what it gives.
class LedgerResource final : public thrust::mr::memory_resource<thrust::device_ptr<void>> {
 public:
  LedgerResource(Ledger& ledger, Category category, std::string_view operation)
      : ledger_(ledger), category_(category), operation_(operation) {}

  [[nodiscard]] pointer do_allocate(std::size_t bytes, std::size_t) override {
    return pointer(
        take_block(ledger_, category_, static_cast<std::int64_t>(bytes), operation_, ledger_.source()));
  }
  void do_deallocate(pointer block, std::size_t bytes, std::size_t) override {
    give_block(ledger_, category_, block.get(), static_cast<std::int64_t>(bytes), ledger_.source());
  }

 private:
  Ledger& ledger_;
  Category category_;
  std::string_view operation_;
};

/// A Thrust vector in a ledger: `DeviceVector<float> x(100, allocator)`, with
/// `DeviceAllocator<float> allocator(&resource)` and a LedgerResource.
template <class T>
using DeviceAllocator = thrust::mr::allocator<T, LedgerResource>;
template <class T>
using DeviceVector = thrust::device_vector<T, DeviceAllocator<T>>;

} // namespace tenon::gpu

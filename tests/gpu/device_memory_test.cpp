// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/gpu/device_memory.hpp>

#include <thrust/fill.h>
#include <thrust/reduce.h>

#include <cstddef>
#include <cstdint>

using namespace tenon;

namespace {

/// An account of device memory, and containers in it.
struct Held {
  Ledger ledger{gpu::device_memory_source(), "a device"};
  gpu::LedgerResource resource{ledger, Category::adapter, "hold a vector"};
  gpu::DeviceAllocator<float> allocator{&resource};

  [[nodiscard]] std::int64_t bytes() const { return ledger.current()[Category::adapter]; }
};

} // namespace

TEST_CASE("A vector of device memory stands in the ledger as long as it is held") {
  Held held;
  {
    gpu::DeviceVector<float> x(100, held.allocator);
    CHECK(held.bytes() == 400);
    CHECK(held.ledger.current().total() == 400);
    thrust::fill(x.begin(), x.end(), 2.0f);
    CHECK(thrust::reduce(x.begin(), x.end(), 0.0f) == 200.0f);
    const gpu::DeviceVector<float> copy(x);
    CHECK(held.bytes() == 800);
    x.clear();
    x.shrink_to_fit();
    CHECK(held.bytes() == 400);
    CHECK(copy.size() == 100);
  }
  CHECK(held.ledger.current() == BytesByCategory{});
  CHECK(held.ledger.peak()[Category::adapter] == 800);
}

TEST_CASE("A budget refuses a vector of device memory before anything is taken, in words") {
  Held held;
  held.ledger.set_budget(1000);
  const gpu::DeviceVector<float> first(200, held.allocator);
  CHECK_THROWS_WITH_AS(
      (gpu::DeviceVector<float>(51, held.allocator)),
      "hold a vector: asked for 204 B (204 B) on a device, but the budget of 1000 B holds 800 B "
      "(adapter 800 B); at most 200 B (200 B) would fit",
      budget_error);
  CHECK(held.bytes() == 800);
  const gpu::DeviceVector<float> second(50, held.allocator);
  CHECK(held.bytes() == 1000);
}

TEST_CASE("Device memory that a device has not is said to be so, and is not charged") {
  const MemorySource nothing{[](std::size_t, void*) noexcept -> void* { return nullptr; },
                             [](void*, std::size_t, void*) noexcept {}, nullptr};
  Ledger ledger(nothing, "a device");
  gpu::LedgerResource resource(ledger, Category::adapter, "hold a vector");
  const gpu::DeviceAllocator<float> allocator(&resource);
  CHECK_THROWS_WITH_AS((gpu::DeviceVector<float>(1000, allocator)),
                       "hold a vector: a device has no 3.9 KiB (4000 B) left; held: 0 B", error);
  CHECK(ledger.current() == BytesByCategory{});
}

TEST_CASE("Sources of different devices are told apart, and one device's are the same") {
  int one = 0;
  int other = 0;
  CHECK(gpu::device_memory_source(&one) == gpu::device_memory_source(&one));
  CHECK_FALSE(gpu::device_memory_source(&one) == gpu::device_memory_source(&other));
}

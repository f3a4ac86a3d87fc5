// SPDX-License-Identifier: Apache-2.0
// The system's memory, and the instruments that the other tests measure it with.
#include "support/allocation_probe.hpp"

#include <tenon/memory/memory_source.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>

namespace {

using namespace tenon;
using namespace tenon::test;

/// The pointer, as if it had been handed to code unknown: an optimiser may not leave out its new and delete.
template <class Owner>
void keep(const Owner& owner) {
  const void* volatile sink = owner.get();
  static_cast<void>(sink);
}

TEST_CASE("Blocks of every size are aligned and writable to the last byte") {
  const MemorySource source = system_memory();
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{63}, std::size_t{64}, page_block_bytes - 1,
                                  page_block_bytes, page_block_bytes + 1, std::size_t{1} << 20}) {
    CAPTURE(bytes);
    void* block = source.allocate(bytes, source.context);
    REQUIRE(block != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(block) % memory_alignment == 0);
    std::memset(block, 0xa5, bytes);
    source.release(block, bytes, source.context);
  }
}

TEST_CASE("More than the address space is refused without an exception") {
  const MemorySource source = system_memory();
  CHECK(source.allocate(std::size_t{1} << 62, source.context) == nullptr);
}

TEST_CASE("The probe counts each form of operator new once") {
  const auto counted = [](auto&& allocate) {
    const AllocationProbe probe;
    keep(allocate());
    return probe.count();
  };
  struct alignas(128) Wide {
    char bytes[128];
  };
  CHECK(counted([] { return std::make_unique<int>(1); }) == 1);
  CHECK(counted([] { return std::make_unique<int[]>(100); }) == 1);
  CHECK(counted([] { return std::make_unique<Wide>(); }) == 1);
  CHECK(counted([] { return std::make_unique<Wide[]>(3); }) == 1);
  CHECK(counted([] { return std::unique_ptr<int>(new (std::nothrow) int(1)); }) == 1);
  CHECK(counted([] { return std::unique_ptr<int[]>(new (std::nothrow) int[100]); }) == 1);
  CHECK(counted([] { return std::unique_ptr<Wide>(new (std::nothrow) Wide); }) == 1);
  CHECK(counted([] { return std::unique_ptr<Wide[]>(new (std::nothrow) Wide[3]); }) == 1);
  CHECK(counted([] { return std::make_shared<int>(1); }) == 1);
  CHECK(counted([] { return std::unique_ptr<int>(); }) == 0);
}

TEST_CASE("The probe counts malloc and its family and pages") {
  if (!probe_sees_malloc) return;
  const AllocationProbe probe;
  void* blocks[] = {std::malloc(10), std::calloc(2, 5), std::aligned_alloc(64, 64)};
  blocks[0] = std::realloc(blocks[0], 5000);
  void* aligned = nullptr;
  const int refused = ::posix_memalign(&aligned, 3, 8);
  const int failed = ::posix_memalign(&aligned, 64, 8);
  void* pages = system_pages(page_block_bytes);
  const auto taken = probe.count();
  CHECK(taken == 6);
  CHECK(refused != 0);
  CHECK(failed == 0);
  release_system_pages(pages, page_block_bytes);
  std::free(aligned);
  for (void* block : blocks) std::free(block);
}

TEST_CASE("What another thread allocates is not counted here") {
  const AllocationProbe probe;
  std::int64_t inside = -1;
  std::thread other([&inside] {
    const AllocationProbe theirs;
    for (int i = 0; i < 100; ++i) keep(std::make_unique<int>(i));
    inside = theirs.count();
  });
  const auto started = probe.count(); // std::thread allocates its own state, in this thread
  other.join();
  CHECK(probe.count() == started);
  CHECK(inside == 100);
}

TEST_CASE("The chosen allocation fails and no other") {
  std::unique_ptr<int> kept[4];
  bool threw = false;
  bool triggered[2];
  { // no CHECK in here: it allocates too
    const FailAllocations fail(3);
    kept[0] = std::make_unique<int>(1);
    kept[1].reset(new (std::nothrow) int(2));
    triggered[0] = fail.triggered();
    try {
      kept[2] = std::make_unique<int>(3);
    } catch (const std::bad_alloc&) {
      threw = true;
    }
    triggered[1] = fail.triggered();
    kept[3] = std::make_unique<int>(4);
  }
  CHECK(kept[0] != nullptr);
  CHECK(kept[1] != nullptr);
  CHECK_FALSE(triggered[0]);
  CHECK(threw);
  CHECK(triggered[1]);
  CHECK(kept[3] != nullptr);
}

TEST_CASE("A nothrow new that is chosen to fail gives nothing") {
  std::unique_ptr<int> none;
  bool triggered = false;
  {
    const FailAllocations fail(1);
    none.reset(new (std::nothrow) int(1));
    keep(none);
    triggered = fail.triggered();
  }
  CHECK(none == nullptr);
  CHECK(triggered);
}

TEST_CASE("The failing source counts small and large blocks as one allocation each") {
  const MemorySource source = failing_source();
  for (const std::size_t bytes : {std::size_t{100}, 4 * page_block_bytes}) {
    CAPTURE(bytes);
    void* block = nullptr;
    void* none = nullptr;
    bool triggered = false;
    {
      const FailAllocations fail(2);
      block = source.allocate(bytes, source.context);
      none = source.allocate(bytes, source.context);
      triggered = fail.triggered();
    }
    CHECK(block != nullptr);
    CHECK(none == nullptr);
    CHECK(triggered);
    source.release(block, bytes, source.context);
  }
}

} // namespace

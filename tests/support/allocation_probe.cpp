// SPDX-License-Identifier: Apache-2.0
#include "support/allocation_probe.hpp"

#include <cassert>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <utility>

#if defined(__GLIBC__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace tenon::test {
namespace {

struct ThreadState {
  std::int64_t count = 0;
  std::int64_t fails_in = 0; ///< the allocation that fails is this many ahead; 0: none is armed
  bool triggered = false;
};
constinit thread_local ThreadState state;

/// Enters one allocation that may be made to fail.
bool this_one_fails() noexcept {
  if (state.fails_in == 0 || --state.fails_in > 0) return false;
  return state.triggered = true;
}

} // namespace

AllocationProbe::AllocationProbe() noexcept : start_(state.count) {}
std::int64_t AllocationProbe::count() const noexcept { return state.count - start_; }

FailAllocations::FailAllocations(std::int64_t nth) noexcept {
  assert(nth > 0 && state.fails_in == 0 && "one FailAllocations at a time, for a positive number");
  state.fails_in = nth;
  state.triggered = false;
}
FailAllocations::~FailAllocations() { state.fails_in = 0; }
bool FailAllocations::triggered() const noexcept { return state.triggered; }

MemorySource failing_source() noexcept {
  return {[](std::size_t bytes, void* context) noexcept -> void* {
            if (this_one_fails()) return nullptr;
            const std::int64_t armed =
                std::exchange(state.fails_in, 0); // a small block comes from operator new
            void* block = system_allocate(bytes, context);
            state.fails_in = armed;
            return block;
          },
          &system_release};
}

} // namespace tenon::test

using tenon::test::state;
using tenon::test::this_one_fails;

// Where memory really comes from: with malloc replaced below, from glibc's own names for it, so that nothing
// is counted twice.
#if defined(__GLIBC__) && !TENON_TEST_SANITIZED
#define TENON_TEST_REPLACES_MALLOC 1
extern "C" {
void* __libc_malloc(std::size_t) noexcept;
void* __libc_calloc(std::size_t, std::size_t) noexcept;
void* __libc_realloc(void*, std::size_t) noexcept;
void* __libc_memalign(std::size_t, std::size_t) noexcept;
}
static void* take(std::size_t bytes) noexcept { return __libc_malloc(bytes); }
static void* take(std::size_t bytes, std::size_t boundary) noexcept {
  return __libc_memalign(boundary, bytes);
}
#else
static void* take(std::size_t bytes) noexcept { return std::malloc(bytes); }
static void* take(std::size_t bytes, std::size_t boundary) noexcept {
  return std::aligned_alloc(boundary, (bytes + boundary - 1) / boundary * boundary);
}
#endif

// operator new and delete
template <class... Boundary>
static void* new_or_null(std::size_t bytes, Boundary... boundary) noexcept {
  ++state.count;
  return this_one_fails() ? nullptr : take(bytes == 0 ? 1 : bytes, static_cast<std::size_t>(boundary)...);
}
template <class... Boundary>
static void* new_or_throw(std::size_t bytes, Boundary... boundary) {
  if (void* block = new_or_null(bytes, boundary...)) return block;
  throw std::bad_alloc();
}

void* operator new(std::size_t n) { return new_or_throw(n); }
void* operator new[](std::size_t n) { return new_or_throw(n); }
void* operator new(std::size_t n, std::align_val_t a) { return new_or_throw(n, a); }
void* operator new[](std::size_t n, std::align_val_t a) { return new_or_throw(n, a); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return new_or_null(n); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return new_or_null(n); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return new_or_null(n, a);
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return new_or_null(n, a);
}

void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { std::free(p); }

// malloc's family and mmap: counted, never failing. glibc's free takes back what its own names gave.
#if defined(TENON_TEST_REPLACES_MALLOC)
extern "C" {
void* malloc(std::size_t bytes) noexcept {
  ++state.count;
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) noexcept {
  ++state.count;
  return __libc_calloc(count, bytes);
}
void* realloc(void* block, std::size_t bytes) noexcept {
  ++state.count;
  return __libc_realloc(block, bytes);
}
void* memalign(std::size_t boundary, std::size_t bytes) noexcept {
  ++state.count;
  return __libc_memalign(boundary, bytes);
}
void* aligned_alloc(std::size_t boundary, std::size_t bytes) noexcept { return memalign(boundary, bytes); }
int posix_memalign(void** block, std::size_t boundary, std::size_t bytes) noexcept {
  if (boundary % sizeof(void*) != 0 || (boundary & (boundary - 1)) != 0 || boundary == 0) return EINVAL;
  void* taken = memalign(boundary, bytes);
  if (taken == nullptr) return ENOMEM;
  *block = taken;
  return 0;
}
void* mmap(void* hint, std::size_t bytes, int protection, int flags, int file, off_t offset) noexcept {
  if ((flags & MAP_ANONYMOUS) != 0) ++state.count;
  return reinterpret_cast<void*>(::syscall(SYS_mmap, hint, bytes, protection, flags, file, offset));
}
void* mmap64(void* hint, std::size_t bytes, int protection, int flags, int file, off64_t offset) noexcept {
  return mmap(hint, bytes, protection, flags, file, offset);
}
}
#endif

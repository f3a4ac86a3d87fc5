// SPDX-License-Identifier: Apache-2.0
// Where the bytes of every Tenon buffer come from: two functions and a context, so that a program can give it
// huge pages, a NUMA node or a pinned pool, and a test can make any single allocation fail. Large blocks come
// from the system's pages and go straight back to it: `free` would keep them in the heap, and "released"
// would then be a claim that the process's own figures contradict.
#pragma once

#include <cstddef>
#include <new>

#if defined(_WIN32)
#ifndef NOMINMAX
#define NOMINMAX // windows.h would turn std::min and std::max into macros
#endif
#include <windows.h>
#else
#include <sys/mman.h>
#endif

namespace tenon {

/// Bytes are handed out on this boundary: a cache line, and the width of the widest vector register.
inline constexpr std::size_t memory_alignment = 64;

/// From this size on a block is pages of its own rather than part of the heap.
inline constexpr std::size_t page_block_bytes = std::size_t{64} * 1024;

/// From this size on huge pages are asked for, where the system has them.
inline constexpr std::size_t huge_block_bytes = std::size_t{4} * 1024 * 1024;

/// A pair of functions that gives and takes back `memory_alignment`-aligned blocks.
/// `allocate` returns nullptr when it has no bytes; `release` gets the size that was asked for.
struct MemorySource {
  void* (*allocate)(std::size_t bytes, void* context) noexcept = nullptr;
  void (*release)(void* block, std::size_t bytes, void* context) noexcept = nullptr;
  void* context = nullptr;

  friend bool operator==(const MemorySource&, const MemorySource&) = default;
};

#if defined(_WIN32)
inline void* system_pages(std::size_t bytes) noexcept {
  return VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}
inline void release_system_pages(void* block, std::size_t) noexcept { VirtualFree(block, 0, MEM_RELEASE); }
#else
inline void* system_pages(std::size_t bytes) noexcept {
  void* block = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) return nullptr;
#if defined(MADV_HUGEPAGE)
  if (bytes >= huge_block_bytes)
    ::madvise(block, bytes, MADV_HUGEPAGE); // a wish: 512 times fewer page faults
#endif
  return block;
}
inline void release_system_pages(void* block, std::size_t bytes) noexcept { ::munmap(block, bytes); }
#endif

inline void* system_allocate(std::size_t bytes, void*) noexcept {
  if (bytes >= page_block_bytes) return system_pages(bytes);
  return ::operator new(bytes, std::align_val_t{memory_alignment}, std::nothrow);
}

inline void system_release(void* block, std::size_t bytes, void*) noexcept {
  if (bytes >= page_block_bytes) return release_system_pages(block, bytes);
  ::operator delete(block, std::align_val_t{memory_alignment});
}

/// Pages from 64 KiB on, the aligned heap below that.
[[nodiscard]] inline MemorySource system_memory() noexcept {
  return {&system_allocate, &system_release, nullptr};
}

} // namespace tenon

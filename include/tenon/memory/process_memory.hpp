// SPDX-License-Identifier: Apache-2.0
// What the system says this process holds, to set beside what the ledger says. Linux only, from
// /proc/self/smaps_rollup. Allocates nothing, so that looking does not change what is seen.
// Cost: the kernel walks the page tables, some microseconds per resident MiB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#if defined(__linux__)
#include <fcntl.h>
#include <unistd.h>
#endif

namespace tenon {

/// Bytes of this process that are in physical memory. Rss = anonymous + file_mapped.
struct ProcessMemory {
  std::int64_t rss = 0;       ///< all pages of this process in memory
  std::int64_t anonymous = 0; ///< heap, stacks, buffers: pages that no file stands behind
  std::int64_t file_mapped =
      0; ///< pages of mapped files (and shared memory), an untouched checkpoint's among them
  std::int64_t private_dirty = 0; ///< written, and mapped by this process alone: what it costs the machine
  std::int64_t private_clean = 0; ///< as its file has it, and mapped by this process alone
  std::int64_t shared_clean = 0;  ///< as its file has it, and mapped by other processes too
};

/// The bytes of the line "<name>: <number> kB"; 0 if there is none.
[[nodiscard]] constexpr std::int64_t kilobyte_line(std::string_view text, std::string_view name) noexcept {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(line.size() < text.size() ? line.size() + 1 : line.size());
    if (!line.starts_with(name) || !line.substr(name.size()).starts_with(':')) continue;
    std::int64_t kilobytes = 0;
    for (const char c : line)
      if (c >= '0' && c <= '9') kilobytes = kilobytes * 10 + (c - '0');
    return kilobytes * 1024;
  }
  return 0;
}

/// The process's memory now; nothing where the system does not tell.
[[nodiscard]] inline std::optional<ProcessMemory> read_process_memory() noexcept {
#if defined(__linux__)
  const int file = ::open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  char buffer[4096];
  std::size_t filled = 0;
  while (filled < sizeof buffer) {
    const ssize_t got = ::read(file, buffer + filled, sizeof buffer - filled);
    if (got <= 0) break;
    filled += static_cast<std::size_t>(got);
  }
  ::close(file);
  const std::string_view text(buffer, filled);
  ProcessMemory memory{.rss = kilobyte_line(text, "Rss"),
                       .anonymous = kilobyte_line(text, "Anonymous"),
                       .private_dirty = kilobyte_line(text, "Private_Dirty"),
                       .private_clean = kilobyte_line(text, "Private_Clean"),
                       .shared_clean = kilobyte_line(text, "Shared_Clean")};
  if (memory.rss == 0) return std::nullopt;
  memory.file_mapped = memory.rss - memory.anonymous;
  return memory;
#else
  return std::nullopt;
#endif
}

} // namespace tenon

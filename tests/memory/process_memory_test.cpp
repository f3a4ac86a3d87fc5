// SPDX-License-Identifier: Apache-2.0
#include "support/allocation_probe.hpp"

#include <tenon/core/units.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/memory/process_memory.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace {

using namespace tenon;

TEST_CASE("A line of kilobytes is read whole and by its full name") {
  constexpr std::string_view text = "00400000-ffff [rollup]\nRss:        1628 kB\nPss_Dirty:   7 kB\n"
                                    "Private_Dirty:       116 kB\nAnonymous:   9 kB";
  static_assert(kilobyte_line(text, "Rss") == 1628 * 1024);
  CHECK(kilobyte_line(text, "Private_Dirty") == 116 * 1024);
  CHECK(kilobyte_line(text, "Anonymous") == 9 * 1024); // last line, no line end
  CHECK(kilobyte_line(text, "Pss") == 0);              // a prefix of Pss_Dirty is not its name
  CHECK(kilobyte_line("", "Rss") == 0);
}

TEST_CASE("The process's memory is read without an allocation") {
  const test::AllocationProbe probe;
  const auto memory = read_process_memory();
  const auto taken = probe.count();
  CHECK(taken == 0);
  if (!memory) return; // not Linux
  CHECK(memory->rss > 0);
  CHECK(memory->anonymous > 0);
  CHECK(memory->file_mapped > 0);
  CHECK(memory->rss == memory->anonymous + memory->file_mapped);
  CHECK(memory->private_dirty + memory->private_clean + memory->shared_clean <= memory->rss);
}

TEST_CASE("Buffers that are written cost what the ledger says and give it back on release") {
  if (test::under_sanitizer || !read_process_memory()) return; // a sanitizer's shadow is anonymous memory too
  const auto anonymous = [] { return read_process_memory()->anonymous; };
  Ledger ledger;
  std::vector<Buffer> buffers;
  buffers.reserve(5);
  const std::int64_t before = anonymous();
  for (const std::int64_t bytes : {64 * KiB, 1 * MiB + 1, 16 * MiB, 48 * MiB, 3 * MiB}) {
    buffers.emplace_back(ledger, Category::overlay, bytes, "test");
    std::memset(buffers.back().data(), 1, static_cast<std::size_t>(bytes));
  }
  const std::int64_t held = ledger.current().total();
  const std::int64_t grown = anonymous() - before;
  buffers.clear();
  const std::int64_t left = anonymous() - before;
  CHECK(held == 68 * MiB + 64 * KiB + 1);
  CHECK(std::abs(grown - held) <= held / 50);
  CHECK(std::abs(left) <= held / 50);
  CHECK(ledger.current().total() == 0);
}

TEST_CASE("A buffer that is not written costs no memory yet") {
  if (test::under_sanitizer || !read_process_memory()) return;
  Ledger ledger;
  const std::int64_t before = read_process_memory()->anonymous;
  const Buffer buffer(ledger, Category::workspace, 256 * MiB, "test");
  CHECK(read_process_memory()->anonymous - before <= 1 * MiB);
}

} // namespace

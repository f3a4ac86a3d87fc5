// SPDX-License-Identifier: Apache-2.0
#include "support/allocation_probe.hpp"

#include <tenon/core/units.hpp>
#include <tenon/memory/buffer.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

namespace {

using namespace tenon;

TEST_CASE("A buffer stands in its ledger for as long as it lives") {
  Ledger ledger;
  {
    const Buffer small(ledger, Category::adapter, 100, "load");
    const Buffer large(ledger, Category::overlay, 2 * MiB, "attach");
    CHECK(ledger.current()[Category::adapter] == 100);
    CHECK(ledger.current()[Category::overlay] == 2 * MiB);
    CHECK(reinterpret_cast<std::uintptr_t>(small.data()) % memory_alignment == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(large.data()) % memory_alignment == 0);
    CHECK(large.bytes() == 2 * MiB);
  }
  CHECK(ledger.current() == BytesByCategory{});
  CHECK(ledger.peak_total() == 2 * MiB + 100);
}

TEST_CASE("An empty buffer holds nothing and needs no ledger") {
  Ledger ledger;
  ledger.set_budget(0);
  const Buffer none(ledger, Category::scratch, 0, "nothing");
  const Buffer plain;
  CHECK(none.data() == nullptr);
  CHECK(none.bytes() == 0);
  CHECK(plain.data() == nullptr);
  CHECK(ledger.peak_total() == 0);
}

TEST_CASE("A move takes the block along and leaves an empty buffer") {
  static_assert(!std::is_copy_constructible_v<Buffer> && std::is_nothrow_move_constructible_v<Buffer>);
  Ledger ledger;
  Buffer a(ledger, Category::scratch, 1000, "a");
  Buffer b(ledger, Category::overlay, 2000, "b");
  const std::byte* block = a.data();
  b = std::move(a);
  CHECK(b.data() == block);
  CHECK(b.bytes() == 1000);
  CHECK(a.data() == nullptr); // NOLINT(bugprone-use-after-move): what is left is the point
  CHECK(a.bytes() == 0);
  CHECK(ledger.current()[Category::scratch] == 1000);
  CHECK(ledger.current()[Category::overlay] == 0);
}

TEST_CASE("Assigning a buffer to itself keeps it") {
  Ledger ledger;
  Buffer a(ledger, Category::scratch, 1000, "a");
  const std::byte* block = a.data();
  Buffer& same = a;
  a = std::move(same);
  CHECK(a.data() == block);
  CHECK(ledger.current().total() == 1000);
}

TEST_CASE("Buffers of two ledgers can be swapped and each pays where it was taken") {
  Ledger first;
  Ledger second;
  {
    Buffer a(first, Category::scratch, 1000, "a");
    Buffer b(second, Category::overlay, 2000, "b");
    a.swap(b);
    CHECK(a.bytes() == 2000);
  }
  CHECK(first.current() == BytesByCategory{});
  CHECK(second.current() == BytesByCategory{});
}

TEST_CASE("A buffer over the budget is refused and changes nothing") {
  Ledger ledger;
  ledger.set_budget(1 * MiB);
  const Buffer held(ledger, Category::workspace, 768 * KiB, "session");
  CHECK_THROWS_WITH_AS(
      Buffer(ledger, Category::overlay, 512 * KiB, "attach tone"),
      "attach tone: asked for 512.0 KiB (524288 B), but the budget of 1.0 MiB holds 768.0 KiB "
      "(workspace 768.0 KiB); at most 256.0 KiB (262144 B) would fit",
      budget_error);
  CHECK(ledger.current().total() == 768 * KiB);
  CHECK(ledger.peak_total() == 768 * KiB);
}

/// What a buffer says when its source has no memory; "" if it was given some.
std::string refusal(Ledger& ledger, std::int64_t bytes) {
  try {
    const test::FailAllocations fail(1);
    const Buffer refused(ledger, Category::overlay, bytes, "attach tone");
  } catch (const error& e) {
    return e.code() == ErrorCode::out_of_memory ? e.what() : "another code";
  }
  return "";
}

TEST_CASE("A source without memory leaves the ledger's current bytes as they were") {
  Ledger ledger(test::failing_source());
  const Buffer held(ledger, Category::adapter, 3 * MiB, "load tone");
  const BytesByCategory before = ledger.current();
  CHECK(refusal(ledger, 4 * KiB) ==
        "attach tone: the system has no 4.0 KiB (4096 B) left; held: 3.0 MiB (adapter 3.0 MiB)");
  CHECK(ledger.current() == before);
  CHECK(refusal(ledger, 10 * MiB) ==
        "attach tone: the system has no 10.0 MiB (10485760 B) left; held: 3.0 MiB (adapter 3.0 MiB)");
  CHECK(ledger.current() == before);
}

TEST_CASE("The heap running out under a small buffer leaves the ledger as it was") {
  Ledger ledger; // the system's source: below 64 KiB a block is from operator new
  CHECK(refusal(ledger, 4 * KiB) == "attach tone: the system has no 4.0 KiB (4096 B) left; held: 0 B");
  CHECK(ledger.current() == BytesByCategory{});
}

TEST_CASE("A buffer takes one block from its source and nothing else") {
  Ledger ledger;
  for (const std::int64_t bytes : {std::int64_t{4096}, 10 * MiB}) {
    CAPTURE(bytes);
    if (!test::probe_sees_malloc && bytes > 4096) continue; // pages are seen with malloc only
    const test::AllocationProbe probe;
    {
      const Buffer buffer(ledger, Category::scratch, bytes, "tile");
    }
    const auto taken = probe.count();
    CHECK(taken == 1);
  }
}

} // namespace

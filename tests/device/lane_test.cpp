// SPDX-License-Identifier: Apache-2.0
// What a device and its lanes promise whatever computes on them: copies of any size, order, counts, memory.
#include <doctest/doctest.h>

#include <support/allocation_probe.hpp>
#include <support/device_memory.hpp>
#include <support/naive.hpp>

#include <tenon/core/units.hpp>
#include <tenon/session/device_ops.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

std::vector<std::byte> some_bytes(std::int64_t count, std::uint64_t seed) {
  Numbers numbers(seed);
  std::vector<std::byte> bytes(static_cast<std::size_t>(count));
  for (std::byte& b : bytes) b = static_cast<std::byte>(static_cast<int>(128 * numbers.next()) + 128);
  return bytes;
}

/// A lane of its own, and the ledger that its host memory stands in.
struct OwnLane {
  Ledger host{};
  std::unique_ptr<DeviceLane> lane = test_device().make_lane(host);
};

} // namespace

TEST_CASE("A device has a name, and functions for the ops that it says it has and no others") {
  CHECK_FALSE(test_device().name().empty());
  for (const std::string_view op : device_ops) {
    CAPTURE(op);
    CHECK((test_device().functions(op).run != nullptr));
  }
  CHECK((test_device().functions("Convolution").run == nullptr));
  CHECK((test_device().functions("").run == nullptr));
}

TEST_CASE("An upload of any size, from any address to any address, arrives whole and writes nothing beside") {
  for (const std::int64_t size : {std::int64_t{0}, std::int64_t{1}, std::int64_t{3}, std::int64_t{255},
                                  std::int64_t{256}, std::int64_t{4097}, std::int64_t{16 * 1024},
                                  std::int64_t{16 * 1024 + 1}, MiB + 5, 4 * MiB, 4 * MiB + 1, 9 * MiB + 13})
    for (const std::int64_t shift : {0, 1, 7}) {
      CAPTURE(size);
      CAPTURE(shift);
      OwnLane own;
      const std::vector<std::byte> from = some_bytes(size + 3, 1);
      DeviceBytes to(size + shift + 9);
      test_lane().wait(); // it filled what is written over now
      const std::span<const std::byte> part = std::span(from).subspan(3);
      own.lane->upload(to.data() + shift, part);
      const std::vector<std::byte> got = downloaded(to.data(), to.size(), *own.lane);
      const auto first = got.begin() + shift;
      const auto is_untouched = [](std::byte b) { return b == std::byte{0xFF}; };
      CHECK(std::equal(part.begin(), part.end(), first));
      CHECK(std::all_of(got.begin(), first, is_untouched));
      CHECK(std::all_of(first + size, got.end(), is_untouched));
      CHECK(own.lane->counts().uploads == 1);
      CHECK(own.lane->counts().upload_bytes == size);
    }
}

TEST_CASE("Many small uploads between large ones arrive, each counted") {
  OwnLane own;
  DeviceBytes to(8 * MiB);
  test_lane().wait();
  const std::vector<std::byte> from = some_bytes(to.size(), 2);
  std::int64_t at = 0;
  std::int64_t uploads = 0;
  for (std::int64_t i = 0; at < to.size(); ++i, ++uploads) {
    const std::int64_t size = std::min(i % 1000 == 999 ? MiB + i : 1 + i * 37 % 97, to.size() - at);
    own.lane->upload(to.data() + at,
                     std::span(from).subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(size)));
    at += size;
  }
  CHECK(uploads > 5000);
  CHECK(downloaded(to.data(), to.size(), *own.lane) == from);
  CHECK(own.lane->counts().uploads == uploads);
  CHECK(own.lane->counts().upload_bytes == to.size());
}

TEST_CASE("What an upload came from may be written again when it returns") {
  for (const std::int64_t size : {std::int64_t{64}, MiB, 11 * MiB}) {
    OwnLane own;
    DeviceBytes to(size);
    test_lane().wait();
    std::vector<std::byte> from = some_bytes(size, 3);
    const std::vector<std::byte> kept = from;
    own.lane->upload(to.data(), from);
    std::ranges::fill(from, std::byte{0});
    CHECK(downloaded(to.data(), size, *own.lane) == kept);
  }
}

TEST_CASE("Two lanes that come after each other in turn see each other's work, and no thread waits for it") {
  OwnLane first;
  OwnLane second;
  constexpr std::int64_t size = 256 * 1024;
  constexpr int turns = 40;
  DeviceBytes shared(size);
  test_lane().wait();
  Buffer seen = pinned_bytes(turns * size);
  for (int i = 0; i < turns; ++i) {
    const std::vector<std::byte> bytes(static_cast<std::size_t>(size), static_cast<std::byte>(i));
    first.lane->upload(shared.data(), bytes);
    const std::int64_t waits = first.lane->counts().waits;
    second.lane->come_after(*first.lane);
    second.lane->download(seen.data() + i * size, shared.data(), size);
    first.lane->come_after(*second.lane);
    CHECK(first.lane->counts().waits == waits);
  }
  CHECK(second.lane->counts().waits == 0);
  second.lane->wait();
  for (int i = 0; i < turns; ++i)
    CHECK(std::all_of(seen.data() + i * size, seen.data() + (i + 1) * size,
                      [i](std::byte b) { return b == static_cast<std::byte>(i); }));
}

TEST_CASE("A clear writes zeros where it is told, and nothing beside") {
  for (const std::int64_t size :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{4}, std::int64_t{257}, MiB + 3})
    for (const std::int64_t shift : {0, 5}) {
      CAPTURE(size);
      OwnLane own;
      DeviceBytes to(size + shift + 11);
      test_lane().wait();
      own.lane->clear(to.data() + shift, size);
      const std::vector<std::byte> got = downloaded(to.data(), to.size(), *own.lane);
      for (std::int64_t i = 0; i < std::ssize(got); i += size > 1000 ? 251 : 1) {
        const bool is_within = i >= shift && i < shift + size;
        REQUIRE(got[static_cast<std::size_t>(i)] == (is_within ? std::byte{0} : std::byte{0xFF}));
      }
      CHECK(got.back() == std::byte{0xFF});
    }
}

TEST_CASE("A copy moves bytes on the device, and to it from pinned memory, and writes nothing beside") {
  for (const std::int64_t size : {std::int64_t{0}, std::int64_t{1}, std::int64_t{257}, MiB + 3}) {
    CAPTURE(size);
    OwnLane own;
    const std::vector<std::byte> bytes = some_bytes(size, 4);
    Buffer pinned = pinned_bytes(size + 1);
    std::copy(bytes.begin(), bytes.end(), pinned.data());
    DeviceBytes from(size);
    DeviceBytes to(size);
    test_lane().wait();
    own.lane->copy(from.data(), pinned.data(), size);
    own.lane->copy(to.data(), from.data(), size);
    CHECK(downloaded(to.data(), size, *own.lane) == bytes);
    CHECK(to.guard_untouched());
  }
}

TEST_CASE("What a device says is free shrinks with what is taken, where it says anything") {
  constexpr std::int64_t taken = 64 * MiB; // more than a driver keeps in hand
  const std::int64_t before = test_device().free_bytes();
  CHECK(before >= 0);
  const DeviceBytes block(taken);
  const std::int64_t after = test_device().free_bytes();
  if (before > 0)
    CHECK(after < before);
  else
    CHECK(after == 0);
}

TEST_CASE("A lane counts what goes over it, each lane its own") {
  OwnLane own;
  OwnLane other;
  CHECK(own.lane->counts() == DeviceCounts{});
  DeviceBytes memory(1000);
  test_lane().wait();
  const std::vector<std::byte> from = some_bytes(600, 4);
  Buffer pinned = pinned_bytes(1000);
  own.lane->upload(memory.data(), from);
  own.lane->upload(memory.data() + 600, std::span(from).first(10));
  own.lane->download(pinned.data(), memory.data(), 300);
  own.lane->clear(memory.data(), 20);
  own.lane->wait();
  own.lane->wait();
  CHECK(own.lane->counts() ==
        DeviceCounts{.uploads = 2, .upload_bytes = 610, .downloads = 1, .download_bytes = 300, .waits = 2});
  CHECK(other.lane->counts() == DeviceCounts{});
}

TEST_CASE("A lane's staging memory stands in the host's ledger, within a bound, and goes with the lane") {
  Ledger host;
  std::unique_ptr<DeviceLane> lane = test_device().make_lane(host);
  const std::int64_t small = host.current()[Category::scratch];
  CHECK((small > 0 && small < MiB));
  DeviceBytes to(32 * MiB);
  test_lane().wait();
  lane->upload(to.data(), some_bytes(10, 5));
  CHECK(host.current()[Category::scratch] == small);
  lane->upload(to.data(), some_bytes(32 * MiB, 5));
  const std::int64_t most = host.current()[Category::scratch];
  CHECK((most > small && most <= 8 * MiB));
  CHECK(host.current().total() == most);
  lane.reset();
  CHECK(host.current() == BytesByCategory{});
}

TEST_CASE("A budget that has no room for a lane's staging memory refuses the lane") {
  Ledger host;
  host.set_budget(100);
  CHECK_THROWS_AS((void)test_device().make_lane(host), budget_error);
  CHECK(host.current() == BytesByCategory{});
}

TEST_CASE(
    "A lane uploads anything through the staging memory it was made with where there is room for no more") {
  OwnLane own;
  const std::vector<std::byte> from = some_bytes(9 * MiB + 13, 7);
  DeviceBytes to(9 * MiB + 13);
  test_lane().wait();
  const BytesByCategory held = own.host.current();
  own.host.set_budget(held.budgeted());
  for (int again = 0; again < 2; ++again) {
    own.lane->upload(to.data(), from);
    CHECK(own.host.current() == held);
    CHECK(downloaded(to.data(), to.size(), *own.lane) == from);
  }
}

TEST_CASE("Device memory comes in blocks on a boundary, and goes back to where it came from") {
  const MemorySource source = test_device().memory();
  CHECK(source == test_device().memory());
  std::vector<std::pair<void*, std::size_t>> blocks;
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{255}, std::size_t{257}, std::size_t{100'000}}) {
    void* const block = source.allocate(bytes, source.context);
    REQUIRE(block != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(block) % static_cast<std::uintptr_t>(device_alignment) == 0);
    blocks.emplace_back(block, bytes);
  }
  for (const auto& [block, bytes] : blocks) source.release(block, bytes, source.context);
  if (!under_sanitizer)
    CHECK(source.allocate(std::size_t{1} << 55, source.context) == nullptr); // they stop at it
}

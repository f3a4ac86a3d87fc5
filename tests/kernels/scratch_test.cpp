// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/scratch.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

using namespace tenon::kernels;

TEST_CASE("A take is rounded up to whole cache lines") {
  static_assert(scratch_bytes<float>(0) == 0);
  static_assert(scratch_bytes<float>(1) == 64);
  static_assert(scratch_bytes<float>(16) == 64);
  static_assert(scratch_bytes<double>(9) == 128);
  static_assert(scratch_sum({scratch_bytes<float>(1), scratch_bytes<float>(17)}) == 192);
  static_assert(scratch_max({64, 192, 128}) == 192);
}

TEST_CASE("Takes lie one after the other on 64-byte boundaries and fill the stated sum") {
  alignas(64) std::array<std::byte, 192> bytes;
  Scratch scratch(bytes);
  const auto first = scratch.take<float>(5);
  const auto second = scratch.take<double>(9);
  CHECK(first.size() == 5);
  CHECK(static_cast<void*>(first.data()) == bytes.data());
  CHECK(static_cast<void*>(second.data()) == bytes.data() + 64);
  CHECK(scratch.remaining() == 56);
}

TEST_CASE("A copy of a scratch is a mark to return to") {
  alignas(64) std::array<std::byte, 256> bytes;
  const Scratch mark(bytes);
  Scratch inner = mark;
  const auto a = inner.take<float>(16);
  inner = mark;
  const auto b = inner.take<float>(16);
  CHECK(a.data() == b.data());
  CHECK(mark.remaining() == 256);
}

TEST_CASE("A block that begins anywhere gives aligned takes") {
  alignas(64) std::array<std::byte, 64 + 63> bytes;
  for (std::size_t shift = 0; shift < 64; ++shift) {
    Scratch scratch{std::span(bytes).subspan(shift)};
    const auto taken = scratch.take<float>(1);
    CHECK(reinterpret_cast<std::uintptr_t>(taken.data()) % 64 == 0);
  }
}

TEST_CASE("An empty take costs nothing") {
  Scratch scratch;
  CHECK(scratch.take<float>(0).empty());
  CHECK(scratch.remaining() == 0);
}

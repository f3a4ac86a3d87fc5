// SPDX-License-Identifier: Apache-2.0
// Some threads for a kernel, each with a scratch of its own.
#pragma once

#include <tenon/core/thread_team.hpp>
#include <tenon/kernels/workers.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tenon::test {

inline constexpr std::int64_t scratch_each = 1 << 20; ///< enough for products and merges

struct Team {
  explicit Team(int threads, std::int64_t scratch_of_each = scratch_each)
      : team(threads), bytes(static_cast<std::size_t>(scratch_of_each * threads + 64)) {
    auto* const begin = bytes.data() + (64 - reinterpret_cast<std::uintptr_t>(bytes.data()) % 64) % 64;
    const auto each = static_cast<std::size_t>(scratch_of_each);
    workers = kernels::Workers(kernels::Scratch({begin, each}), &team,
                               {begin + each, each * static_cast<std::size_t>(threads - 1)}, scratch_of_each);
  }
  ThreadTeam team;
  std::vector<std::byte> bytes;
  kernels::Workers workers{};
};

} // namespace tenon::test

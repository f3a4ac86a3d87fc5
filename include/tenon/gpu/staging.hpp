// SPDX-License-Identifier: Apache-2.0
// The way from any host memory to a device: through two pinned blocks, so that while the device copies one the host
// fills the other. Small copies share a block; large ones go in chunks. Blocks grow with what goes through, up to
// `staging_bytes`, and stand in the host's ledger; where that has no room for more, what there is serves.
#pragma once

#include <tenon/gpu/device_memory.hpp>
#include <tenon/memory/buffer.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tenon::gpu {

inline constexpr std::int64_t staging_bytes = std::int64_t{4} * 1024 * 1024; ///< of a block, at most
inline constexpr std::int64_t least_staging_bytes = std::int64_t{16} * 1024;

class Staging {
 public:
  /// Takes the least that uploads need, so that none fails for memory later: a restore could not. Throws as Buffer does.
  explicit Staging(Ledger& ledger) : ledger_(ledger) { blocks_[0].bytes = block_of(least_staging_bytes); }

  /// Puts the copy on `queue`; `from` may be written again when it returns. `to` is device memory. Throws as Buffer and
  /// Queue do. One queue for all calls.
  void upload(Queue& queue, std::byte* to, std::span<const std::byte> from) {
    while (!from.empty()) {
      Block& block = block_with_room(queue, static_cast<std::int64_t>(from.size()));
      const auto part = std::min(from.size(), static_cast<std::size_t>(block.bytes.bytes() - block.used));
      std::byte* const place = block.bytes.data() + block.used;
      std::memcpy(place, from.data(), part);
      queue.copy(to, place, static_cast<std::int64_t>(part));
      block.used += static_cast<std::int64_t>(part);
      to += part;
      from = from.subspan(part);
    }
  }
  /// How often the host had to wait until the device had copied a block.
  [[nodiscard]] std::int64_t waits() const noexcept { return waits_; }

 private:
  struct Block {
    Buffer bytes{};
    std::int64_t used = 0;
    Mark copied{};
  };

  /// The block being filled, or the other one once what it held is copied.
  [[nodiscard]] Block& block_with_room(Queue& queue, std::int64_t wanted) {
    Block& full = blocks_[current_];
    if (full.used < full.bytes.bytes()) return full;
    if (full.used > 0) full.copied.set(queue);
    Block& next = blocks_[1 - current_];
    begin_again(next);
    const std::int64_t size = std::min(std::max(wanted, least_staging_bytes), staging_bytes);
    if (size > next.bytes.bytes()) {
      try {
        next.bytes = block_of(size);
      } catch (const error&) { // what there is serves, if more slowly
      }
    }
    if (next.bytes.bytes() == 0) {
      begin_again(full);
      return full;
    }
    current_ = 1 - current_;
    return next;
  }
  [[nodiscard]] Buffer block_of(std::int64_t bytes) const {
    return {ledger_, Category::scratch, bytes, "stage a copy to a device", pinned_memory_source()};
  }
  /// Once the device has copied what the block holds.
  void begin_again(Block& block) {
    if (block.used > 0 && !block.copied.is_reached()) {
      ++waits_;
      block.copied.wait();
    }
    block.used = 0;
  }

  Ledger& ledger_;
  std::array<Block, 2> blocks_{};
  std::size_t current_ = 0;
  std::int64_t waits_ = 0;
};

} // namespace tenon::gpu

// SPDX-License-Identifier: Apache-2.0
// Buffers of overlays whose guards have ended, kept for the next attach, so that going from one merged
// adapter to another touches pages that are there already. It keeps nothing unless told how much: what a
// guard releases goes back to the system otherwise. What it keeps stays in the ledger as overlay bytes. Not
// for two threads at once.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/memory/category.hpp>
#include <tenon/memory/ledger.hpp>

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

namespace tenon {

class OverlayPool {
 public:
  explicit OverlayPool(Ledger& ledger) noexcept : ledger_(ledger) {}

  /// From now on keeps at most `bytes`; what is kept beyond goes back at once.
  void keep_at_most(std::int64_t bytes) noexcept {
    limit_ = bytes;
    shrink_to(limit_);
  }
  /// Gives all that is kept back to the system. The limit stays.
  void trim() noexcept { shrink_to(0); }
  [[nodiscard]] std::int64_t kept_bytes() const noexcept { return kept_; }

  /// Refuses an attach that holds `asked` before it begins, as Ledger::require does; kept bytes count as
  /// free: what does not serve goes back if the budget needs it.
  void require(const BytesByCategory& asked, std::string_view operation) {
    BytesByCategory missing = asked;
    if (find(asked[Category::overlay]) != nullptr) missing[Category::overlay] = 0;
    if (kept_ > 0 && !ledger_.has_room_for(missing)) {
      trim();
      missing = asked;
    }
    ledger_.require(missing, operation);
  }
  /// A kept buffer of exactly `bytes`, or a new one; where the system has none, what is kept goes back first.
  /// Throws as Buffer does.
  [[nodiscard]] Buffer take(std::int64_t bytes, std::string_view operation) {
    if (Buffer* const kept = find(bytes)) {
      kept_ -= bytes;
      return std::move(*kept);
    }
    try {
      return Buffer(ledger_, Category::overlay, bytes, operation);
    } catch (const error&) {
      if (kept_ == 0) throw;
    }
    trim();
    return Buffer(ledger_, Category::overlay, bytes, operation);
  }
  /// A taken buffer that, if it was a kept one, is kept again unless somebody claims it: an attach that fails
  /// leaves what it found.
  class Loan {
   public:
    /// Throws as `take`.
    Loan(OverlayPool& pool, std::int64_t bytes, std::string_view operation)
        : pool_(pool), was_kept_(pool.find(bytes) != nullptr), buffer_(pool.take(bytes, operation)) {}
    ~Loan() {
      if (was_kept_) pool_.give(std::move(buffer_));
    }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;

    [[nodiscard]] std::byte* data() noexcept { return buffer_.data(); }
    [[nodiscard]] Buffer claim() noexcept {
      was_kept_ = false;
      return std::move(buffer_);
    }

   private:
    OverlayPool& pool_;
    bool was_kept_;
    Buffer buffer_;
  };

  /// Keeps the buffer if the limit has room, else gives it back. Allocates nothing.
  void give(Buffer buffer) noexcept {
    if (buffer.bytes() == 0 || kept_ + buffer.bytes() > limit_) return;
    for (Buffer& place : places_) {
      if (place.data() != nullptr) continue;
      kept_ += buffer.bytes();
      place = std::move(buffer);
      return;
    }
  }

 private:
  [[nodiscard]] Buffer* find(std::int64_t bytes) noexcept {
    for (Buffer& place : places_)
      if (place.data() != nullptr && place.bytes() == bytes) return &place;
    return nullptr;
  }
  void shrink_to(std::int64_t bytes) noexcept {
    for (Buffer& place : places_) {
      if (kept_ <= bytes) return;
      kept_ -= place.bytes();
      place = Buffer();
    }
  }

  Ledger& ledger_;
  std::int64_t limit_ = 0;
  std::int64_t kept_ = 0;
  std::array<Buffer, 8> places_{};
};

} // namespace tenon

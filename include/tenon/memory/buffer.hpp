// SPDX-License-Identifier: Apache-2.0
// A block of bytes that stands in a ledger for as long as it lives. Movable, not copyable; contents start
// undefined (large blocks are fresh pages, hence zero). Every byte a session, an overlay or a conversion uses
// is one of these.
#pragma once

#include <tenon/memory/ledger.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace tenon {

/// A block of `source` that stands in `ledger` under `category` until `give_block`. Strong guarantee. Throws `budget_error`
/// if the ledger's budget refuses it, `error{out_of_memory}` if the source has none.
[[nodiscard]] inline void* take_block(Ledger& ledger, Category category, std::int64_t bytes,
                                      std::string_view operation, const MemorySource& source) {
  ledger.charge(category, bytes, operation);
  if (void* const block = source.allocate(static_cast<std::size_t>(bytes), source.context)) return block;
  ledger.discharge(category, bytes);
  throw error(ErrorCode::out_of_memory, concat(operation, ": ", ledger.place(), " has no ", bytes_text(bytes),
                                               " (", bytes, " B) left; held: ", held_text(ledger.current())));
}
inline void give_block(Ledger& ledger, Category category, void* block, std::int64_t bytes,
                       const MemorySource& source) noexcept {
  source.release(block, static_cast<std::size_t>(bytes), source.context);
  ledger.discharge(category, bytes);
}

class Buffer {
 public:
  Buffer() noexcept = default;

  /// `bytes` on a 64-byte boundary, entered under `category`. Strong guarantee.
  /// Throws `budget_error` if the ledger's budget refuses them, `error{out_of_memory}` if its source has
  /// none.
  Buffer(Ledger& ledger, Category category, std::int64_t bytes, std::string_view operation)
      : Buffer(ledger, category, bytes, operation, ledger.source()) {}
  /// The same from another source than the ledger's: memory that a device reads fast.
  Buffer(Ledger& ledger, Category category, std::int64_t bytes, std::string_view operation,
         const MemorySource& source)
      : ledger_(&ledger), source_(source), bytes_(bytes), category_(category) {
    if (bytes > 0) data_ = static_cast<std::byte*>(take_block(ledger, category, bytes, operation, source));
  }

  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) give_block(*ledger_, category_, data_, bytes_, source_);
  }

  [[nodiscard]] std::byte* data() noexcept { return data_; }
  [[nodiscard]] const std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }

  void swap(Buffer& other) noexcept {
    std::swap(ledger_, other.ledger_);
    std::swap(source_, other.source_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(category_, other.category_);
  }

 private:
  Ledger* ledger_ = nullptr;
  MemorySource source_{};
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
  Category category_ = Category::scratch;
};

} // namespace tenon

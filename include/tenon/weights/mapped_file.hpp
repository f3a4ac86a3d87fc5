// SPDX-License-Identifier: Apache-2.0
// A whole file as read-only memory: pages of the system's cache, read when they are touched, shared by every
// process that maps it, and entered in a ledger for as long as the mapping lives.
// A file that changes under its mapping: `check_unchanged` (which sessions and attaches call) finds that it
// was written since it was opened. What nothing can catch is a file cut short in the middle of a read: on
// POSIX that read is a SIGBUS. So replace a file by renaming a new one over it, the mapping then keeps the
// old one, whole; never truncate or overwrite it. Windows refuses both as long as the file is mapped.
// Cost: no copy. Threads: const members may be called from any thread.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/memory/ledger.hpp>
#include <tenon/weights/file_handle.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace tenon {

/// Movable, not copyable; addresses stay when it is moved. Empty when default-constructed or moved from.
class MappedFile {
 public:
  MappedFile() noexcept = default;

  /// Maps the file at `path` (UTF-8) and enters its size in `ledger`, which must outlive it. Strong
  /// guarantee. Throws `load_error{io}` for a file that is missing, empty or none, `budget_error` if the
  /// ledger refuses.
  TENON_INLINE MappedFile(std::string path, Ledger& ledger, Category category);

  MappedFile(MappedFile&& other) noexcept { swap(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    MappedFile taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~MappedFile() {
    if (pages_.data == nullptr) return;
    unmap_pages(pages_);
    ledger_->discharge(category_, size());
  }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {pages_.data, pages_.bytes}; }
  [[nodiscard]] std::int64_t size() const noexcept { return static_cast<std::int64_t>(pages_.bytes); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// Throws `error{io}` if the file has another size than it was mapped with, or was written since (as far as
  /// the file system's clock tells: some milliseconds). Cost: one system call.
  TENON_INLINE void check_unchanged() const;

  void swap(MappedFile& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(file_, other.file_);
    std::swap(state_, other.state_);
    std::swap(pages_, other.pages_);
    std::swap(ledger_, other.ledger_);
    std::swap(category_, other.category_);
  }

 private:
  [[noreturn]] void refuse(std::string_view expected, std::string_view got) const {
    throw load_error(ErrorCode::io, concat(path_, ": expected ", expected, ", got ", got), {.file = path_});
  }

  std::string path_{};
  FileHandle file_{};
  FileState state_{};
  FilePages pages_{};
  Ledger* ledger_ = nullptr;
  Category category_ = Category::base_mapped;
};

#if TENON_HAS_BODIES
TENON_INLINE MappedFile::MappedFile(std::string path, Ledger& ledger, Category category)
    : path_(std::move(path)), file_(path_), ledger_(&ledger), category_(category) {
  if (!file_.is_open()) refuse("a file that can be opened", system_error_text());
  if (!read_state(file_.get(), state_)) refuse("a file whose size is known", system_error_text());
  if (state_.kind == FileKind::folder) refuse("a file", "a folder");
  if (state_.kind == FileKind::other) refuse("a file", "a device, pipe or socket");
  if (state_.bytes == 0) refuse("a file with bytes in it", "an empty one");
  ledger.charge(category, state_.bytes, concat("mapping ", path_));
  pages_ = map_pages(file_.get(), static_cast<std::size_t>(state_.bytes));
  if (pages_.data != nullptr) return;
  ledger.discharge(category, state_.bytes);
  refuse("a file that can be mapped", system_error_text());
}

TENON_INLINE void MappedFile::check_unchanged() const {
  FileState now;
  if (!file_.is_open()) return;
  if (!read_state(file_.get(), now))
    throw error(ErrorCode::io, concat(path_, ": expected the mapped file, got ", system_error_text()),
                {.file = path_});
  if (now == state_) return;
  throw error(ErrorCode::io,
              concat(path_, ": expected the ", state_.bytes, " bytes that were mapped, got a file of ",
                     now.bytes, " bytes written since"),
              {.file = path_});
}
#endif

} // namespace tenon

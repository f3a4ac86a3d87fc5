// SPDX-License-Identifier: Apache-2.0
// A file that is written beside its path, as `<path>.tmp`, and takes that path when it is whole: a reader
// meets the old file or the new one, never half of either. It is not flushed to the disk: after a power cut
// either may be there, or an empty one. Cost: buffered writes and one rename. Threads: one writer per path at
// a time.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/weights/file_handle.hpp>

#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

namespace tenon {

/// A file in the making. What is at `path` stays as it is until `publish` has returned.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& path) : path_(path), temporary_(path + ".tmp") {
#if defined(_WIN32)
    file_ = _wfopen(wide_path(temporary_).c_str(), L"wb");
#else
    file_ = std::fopen(temporary_.c_str(), "wb");
#endif
    if (file_ == nullptr) refuse("a file that can be written", errno_text());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (file_ != nullptr) std::fclose(file_);
    if (is_published_) return;
#if defined(_WIN32)
    DeleteFileW(wide_path(temporary_).c_str());
#else
    std::remove(temporary_.c_str());
#endif
  }

  void write(const void* data, std::size_t bytes) {
    if (std::fwrite(data, 1, bytes, file_) != bytes) refuse("room for the whole file", errno_text());
  }

  /// Closes the file and gives it its name.
  void publish() {
    if (std::fclose(std::exchange(file_, nullptr)) != 0) refuse("room for the whole file", errno_text());
#if defined(_WIN32)
    is_published_ =
        MoveFileExW(wide_path(temporary_).c_str(), wide_path(path_).c_str(), MOVEFILE_REPLACE_EXISTING) != 0;
#else
    is_published_ = std::rename(temporary_.c_str(), path_.c_str()) == 0;
#endif
    if (!is_published_) refuse("a path that a file can be renamed to", system_error_text());
  }

 private:
  [[noreturn]] void refuse(std::string_view expected, std::string_view got) const {
    throw error(ErrorCode::io, concat(path_, ": expected ", expected, ", got ", got), {.file = path_});
  }

  std::string path_;
  std::string temporary_;
  std::FILE* file_ = nullptr;
  bool is_published_ = false;
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// The few calls on files in which POSIX and Windows differ: open for reading, size and time of the last
// write, map, unmap. MappedFile makes errors of them and keeps the books; nothing else calls them.
// Cost: system calls. Threads: const members may be called from any thread.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>

#if defined(_WIN32)
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace tenon {

enum class FileKind : std::uint8_t { file, folder, other };

/// What a file is at one moment: enough to see later that it is no longer the same.
struct FileState {
  FileKind kind = FileKind::other;
  std::int64_t bytes = 0;
  std::int64_t written = 0; ///< time of the last write, in the system's unit and from its epoch

  friend bool operator==(const FileState&, const FileState&) = default;
};

/// Pages of a file; no address if the system refused them.
struct FilePages {
  const std::byte* data = nullptr;
  std::size_t bytes = 0;
};

/// Why the last call of the C library failed, in the system's words.
[[nodiscard]] inline std::string errno_text() { return std::generic_category().message(errno); }

#if defined(_WIN32)
using SystemFile = HANDLE;
inline const SystemFile no_system_file = INVALID_HANDLE_VALUE;

/// Why the last call of the system failed, in the system's words.
[[nodiscard]] inline std::string system_error_text() {
  return std::system_category().message(static_cast<int>(GetLastError()));
}

/// Paths are UTF-8 in Tenon, UTF-16 in Windows.
[[nodiscard]] inline std::wstring wide_path(const std::string& path) {
  const int bytes = static_cast<int>(path.size());
  const int units = MultiByteToWideChar(CP_UTF8, 0, path.data(), bytes, nullptr, 0);
  std::wstring out(static_cast<std::size_t>(units), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, path.data(), bytes, out.data(), units);
  return out;
}

[[nodiscard]] inline SystemFile open_file(const std::string& path) {
  return CreateFileW(wide_path(path).c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr,
                     OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, nullptr);
}

inline void close_file(SystemFile file) noexcept { CloseHandle(file); }

/// False if the system does not tell.
[[nodiscard]] inline bool read_state(SystemFile file, FileState& out) noexcept {
  BY_HANDLE_FILE_INFORMATION info{};
  if (GetFileInformationByHandle(file, &info) == 0) return false;
  const auto join = [](DWORD high, DWORD low) {
    return static_cast<std::int64_t>((static_cast<std::uint64_t>(high) << 32U) | low);
  };
  out.kind = (info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) != 0 ? FileKind::folder : FileKind::file;
  out.bytes = join(info.nFileSizeHigh, info.nFileSizeLow);
  out.written = join(info.ftLastWriteTime.dwHighDateTime, info.ftLastWriteTime.dwLowDateTime);
  return true;
}

[[nodiscard]] inline FilePages map_pages(SystemFile file, std::size_t bytes) noexcept {
  const HANDLE mapping = CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr);
  if (mapping == nullptr) return {};
  const void* const pages = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, bytes);
  CloseHandle(mapping); // the view keeps it alive
  return {.data = static_cast<const std::byte*>(pages), .bytes = bytes};
}

inline void unmap_pages(FilePages pages) noexcept { UnmapViewOfFile(pages.data); }

/// Lets the process do without the whole pages among these; whoever reads them gets them from the file again.
inline void drop_pages(FilePages pages) noexcept {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): pages that are not locked leave the working set
  VirtualUnlock(const_cast<std::byte*>(pages.data), pages.bytes);
}
#else
using SystemFile = int;
inline constexpr SystemFile no_system_file = -1;

/// Why the last call of the system failed, in the system's words.
[[nodiscard]] inline std::string system_error_text() { return errno_text(); }

[[nodiscard]] inline SystemFile open_file(const std::string& path) {
  return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); // or a pipe would wait for its writer
}

inline void close_file(SystemFile file) noexcept { ::close(file); }

/// False if the system does not tell.
[[nodiscard]] inline bool read_state(SystemFile file, FileState& out) noexcept {
  struct stat info{};
  if (::fstat(file, &info) != 0) return false;
#if defined(__APPLE__)
  const timespec written = info.st_mtimespec;
#else
  const timespec written = info.st_mtim;
#endif
  out.kind = FileKind::other;
  if (S_ISREG(info.st_mode)) out.kind = FileKind::file;
  if (S_ISDIR(info.st_mode)) out.kind = FileKind::folder;
  out.bytes = static_cast<std::int64_t>(info.st_size);
  out.written = std::int64_t{written.tv_sec} * 1'000'000'000 + written.tv_nsec;
  return true;
}

[[nodiscard]] inline FilePages map_pages(SystemFile file, std::size_t bytes) noexcept {
  void* const pages = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
  if (pages == MAP_FAILED) return {};
  return {.data = static_cast<const std::byte*>(pages), .bytes = bytes};
}

inline void unmap_pages(FilePages pages) noexcept {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): munmap takes the pages as mmap gave them
  ::munmap(const_cast<std::byte*>(pages.data), pages.bytes);
}

/// Lets the process do without the whole pages among these; whoever reads them gets them from the file again.
/// Precondition: they are mapped from a file and never written.
inline void drop_pages(FilePages pages) noexcept {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(pages.data) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(pages.data) + pages.bytes) / page * page;
  // NOLINTNEXTLINE(performance-no-int-to-ptr,cppcoreguidelines-pro-type-reinterpret-cast): an address rounded to a page
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}
#endif

/// An open file, closed at the end.
class FileHandle {
 public:
  FileHandle() noexcept = default;
  explicit FileHandle(const std::string& path) : file_(open_file(path)) {}
  FileHandle(FileHandle&& other) noexcept : file_(std::exchange(other.file_, no_system_file)) {}
  FileHandle& operator=(FileHandle&& other) noexcept {
    FileHandle taken(std::move(other));
    std::swap(file_, taken.file_);
    return *this;
  }
  ~FileHandle() {
    if (is_open()) close_file(file_);
  }

  [[nodiscard]] bool is_open() const noexcept { return file_ != no_system_file; }
  [[nodiscard]] SystemFile get() const noexcept { return file_; }

 private:
  SystemFile file_ = no_system_file;
};

/// Whether `path` names a folder, or a file; `other` if it names neither, or nothing that may be opened.
[[nodiscard]] inline FileKind file_kind(const std::string& path) {
  const FileHandle file(path);
  FileState state;
  return file.is_open() && read_state(file.get(), state) ? state.kind : FileKind::other;
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// A safetensors file, mapped and checked: its tensors by name, as views into the mapping, nothing copied.
// A view is good for as long as the SafetensorsFile lives; moving that keeps views and entries where they
// are. Cost: to open, the header (about 90 bytes of memory for each of its values, given back at once); data
// pages are read when they are touched. Threads: const members may be called from any thread.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/nearest.hpp>
#include <tenon/core/text.hpp>
#include <tenon/weights/mapped_file.hpp>
#include <tenon/weights/safetensors_header.hpp>
#include <tenon/weights/tensor_view.hpp>

#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace tenon {

static_assert(std::endian::native == std::endian::little,
              "tenon::SafetensorsFile: views into a file need a little-endian machine");

/// Whether the tensor's address is a multiple of its element's size. The reference writer sees to it; a file
/// by another hand may have its data anywhere.
[[nodiscard]] inline bool is_aligned(const TensorView& tensor) noexcept {
  return reinterpret_cast<std::uintptr_t>(tensor.data) %
             static_cast<std::uintptr_t>(dtype_bytes(tensor.dtype)) ==
         0;
}

/// Throws `load_error{missing_key}`: "a.safetensors: q.weigth: expected a tensor of this name, got none; the
/// nearest is q.weight". `tensors` is any range of things with a `name`.
template <class Tensors>
[[noreturn]] void refuse_missing_tensor(std::string_view path, std::string_view name,
                                        const Tensors& tensors) {
  NearestName nearest(name);
  for (const auto& tensor : tensors) nearest.offer(tensor.name);
  const std::string_view best = nearest.best();
  throw load_error(ErrorCode::missing_key,
                   concat(path, ": ", name, ": expected a tensor of this name, got none",
                          best.empty() ? "" : "; the nearest is ", best),
                   {.file = std::string(path), .key = std::string(name)});
}

class SafetensorsFile {
 public:
  /// Maps the file at `path` and checks its header. Throws what MappedFile and `parse_safetensors_header`
  /// throw; nothing is held then.
  SafetensorsFile(std::string path, Ledger& ledger, Category category)
      : file_(std::move(path), ledger, category),
        header_(parse_safetensors_header(file_.bytes(), file_.path())) {}

  /// Every tensor of the file, by name.
  [[nodiscard]] std::span<const TensorEntry> entries() const noexcept { return header_.entries; }
  [[nodiscard]] const SafetensorsHeader& header() const noexcept { return header_; }
  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }
  /// Of the whole file, as it stands in the ledger.
  [[nodiscard]] std::int64_t bytes() const noexcept { return file_.size(); }

  /// Precondition: `entry` is one of `entries()`.
  [[nodiscard]] TensorView view(const TensorEntry& entry) const noexcept {
    return {file_.bytes().data() + header_.data_begin + entry.begin, entry.dtype, entry.shape()};
  }
  [[nodiscard]] std::optional<TensorView> find(std::string_view name) const noexcept {
    const TensorEntry* const entry = header_.find(name);
    return entry == nullptr ? std::nullopt : std::optional(view(*entry));
  }
  /// Throws `load_error{missing_key}`, with the nearest name the file has.
  [[nodiscard]] TensorView at(std::string_view name) const {
    if (const TensorEntry* const entry = header_.find(name)) return view(*entry);
    refuse_missing_tensor(path(), name, header_.entries);
  }

  /// All bytes of the file, header included.
  [[nodiscard]] std::span<const std::byte> contents() const noexcept { return file_.bytes(); }

  /// See `MappedFile::check_unchanged`.
  void check_unchanged() const { file_.check_unchanged(); }

 private:
  MappedFile file_;
  SafetensorsHeader header_;
};

} // namespace tenon

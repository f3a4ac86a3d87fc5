// SPDX-License-Identifier: Apache-2.0
// The weights of a model, in one safetensors file or in several under an index
// (`model.safetensors.index.json`, as transformers and diffusers write it), as one list of tensors by name.
// Every shard is mapped and checked when the checkpoint is opened, and the index against its shards.
// Cost: to open, the headers; look-up O(log n); data pages are read when they are touched. Threads: const
// members may be called from any thread.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/error.hpp>
#include <tenon/core/sort_by.hpp>
#include <tenon/core/text.hpp>
#include <tenon/weights/file_handle.hpp>
#include <tenon/weights/mapped_file.hpp>
#include <tenon/weights/safetensors.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if TENON_HAS_BODIES
#include <tenon/core/json.hpp>
#endif

namespace tenon {

/// What `Checkpoint::open` looks for in a folder, in this order: one file goes before an index, as
/// transformers has it.
inline constexpr std::array<std::string_view, 4> checkpoint_names{
    "model.safetensors", "model.safetensors.index.json", "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json"};

/// A tensor of a checkpoint and the file that has it.
struct CheckpointTensor {
  std::string_view name{};
  TensorView view{};
  std::size_t file = 0; ///< index into `Checkpoint::files()`
};

/// Movable, not copyable; views and names stay good as long as the checkpoint they moved to.
class Checkpoint {
 public:
  /// `path`: a safetensors file, an index (`*.json`), or a folder with one of `checkpoint_names`. Throws
  /// `load_error` for what is missing, broken, or differs from the index; nothing is held then.
  [[nodiscard]] static TENON_INLINE Checkpoint open(const std::string& path, Ledger& ledger,
                                                    Category category);

  /// Every tensor, by name; what a shard has and the index does not list is among them.
  [[nodiscard]] std::span<const CheckpointTensor> tensors() const noexcept { return tensors_; }
  [[nodiscard]] std::span<const SafetensorsFile> files() const noexcept { return files_; }

  /// nullptr if there is no tensor of this name.
  [[nodiscard]] const CheckpointTensor* find(std::string_view name) const noexcept {
    const auto at =
        std::lower_bound(tensors_.begin(), tensors_.end(), name,
                         [](const CheckpointTensor& t, std::string_view key) { return t.name < key; });
    return at != tensors_.end() && at->name == name ? &*at : nullptr;
  }
  /// Throws `load_error{missing_key}`, with the nearest name there is.
  [[nodiscard]] const CheckpointTensor& at(std::string_view name) const {
    if (const CheckpointTensor* const tensor = find(name)) return *tensor;
    refuse_missing_tensor(path_, name, tensors_);
  }

  /// The file, index or folder that was opened.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// The file that `tensor` is in, for messages. Precondition: it is one of `tensors()`.
  [[nodiscard]] const std::string& path_of(const CheckpointTensor& tensor) const noexcept {
    return files_[tensor.file].path();
  }
  /// Of all files, as they stand in the ledger.
  [[nodiscard]] std::int64_t bytes() const noexcept {
    std::int64_t sum = 0;
    for (const SafetensorsFile& file : files_) sum += file.bytes();
    return sum;
  }
  /// Throws `error{io}` if any of the files was written since it was opened. Cost: a system call for each.
  void check_unchanged() const {
    for (const SafetensorsFile& file : files_) file.check_unchanged();
  }

 private:
  explicit Checkpoint(std::string path) : path_(std::move(path)) {}

  TENON_INLINE void open_index(const std::string& index, Ledger& ledger, Category category);
  TENON_INLINE void list_tensors();

  std::string path_;
  std::vector<SafetensorsFile> files_{};
  std::vector<CheckpointTensor> tensors_{};
};

/// The folder part of a path, with its separator; empty if it has none.
[[nodiscard]] inline std::string_view folder_of(std::string_view path) noexcept {
#if defined(_WIN32)
  const std::size_t slash = path.find_last_of("/\\");
#else
  const std::size_t slash = path.rfind('/');
#endif
  return slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash + 1);
}

/// Whether a shard's name stays in its index's folder on every system: no drive, no root, no way up.
[[nodiscard]] inline bool is_inside_folder(std::string_view name) noexcept {
  const bool has_plain_bytes = name.find_first_of(std::string_view("\0:\\", 3)) == std::string_view::npos;
  if (name.empty() || name.front() == '/' || !has_plain_bytes) return false;
  while (!name.empty()) {
    const std::size_t slash = (std::min)(name.find('/'), name.size());
    if (name.substr(0, slash) == "..") return false;
    name.remove_prefix((std::min)(slash + 1, name.size()));
  }
  return true;
}

/// The file or index that a path stands for: itself, or what its folder has.
[[nodiscard]] inline std::string checkpoint_path(const std::string& path) {
  if (file_kind(path) != FileKind::folder) return path;
  std::string names;
  for (const std::string_view name : checkpoint_names) {
    const std::string candidate = concat(path, path.ends_with('/') ? "" : "/", name);
    if (file_kind(candidate) == FileKind::file) return candidate;
    names += concat(names.empty() ? "" : ", ", name);
  }
  throw load_error(ErrorCode::io,
                   concat(path, ": expected a folder with one of ", names, ", got none of them"),
                   {.file = path});
}

#if TENON_HAS_BODIES
TENON_INLINE Checkpoint Checkpoint::open(const std::string& path, Ledger& ledger, Category category) {
  Checkpoint out(path);
  const std::string file = checkpoint_path(path);
  if (file.ends_with(".json"))
    out.open_index(file, ledger, category);
  else
    out.files_.emplace_back(file, ledger, category);
  out.list_tensors();
  return out;
}

TENON_INLINE void Checkpoint::open_index(const std::string& index, Ledger& ledger, Category category) {
  const auto refuse = [](std::string_view path, std::string_view key, std::string_view expected,
                         std::string_view got) {
    throw load_error(ErrorCode::bad_file, concat(path, ": ", key, ": expected ", expected, ", got ", got),
                     {.file = std::string(path), .key = std::string(key)});
  };
  const MappedFile mapping(index, ledger, category);
  const std::string_view text(reinterpret_cast<const char*>(mapping.bytes().data()), mapping.bytes().size());
  const JsonValue root = parse_json(text, {.file = index});
  const std::string what = concat(index, ": weight_map");
  std::vector<std::string_view> opened; // shards, in the order of files_
  for (const auto& [name, value] : root.at("weight_map", index).object(what)) {
    const std::string& shard = value.string(concat(index, ": ", name));
    if (!is_inside_folder(shard)) refuse(index, name, "a shard inside the index's folder", json_quote(shard));
    const auto at = static_cast<std::size_t>(std::find(opened.begin(), opened.end(), shard) - opened.begin());
    const std::string path = concat(folder_of(index), shard);
    if (at == opened.size()) {
      if (file_kind(path) != FileKind::file) refuse(index, name, concat("its shard ", path), "no such file");
      files_.emplace_back(path, ledger, category);
      opened.push_back(shard);
    }
    const SafetensorsFile& file = files_[at];
    if (file.header().find(name) == nullptr)
      refuse(file.path(), name, concat("a tensor that ", index, " places here"), "none");
  }
}

TENON_INLINE void Checkpoint::list_tensors() {
  for (std::size_t i = 0; i < files_.size(); ++i)
    for (const TensorEntry& entry : files_[i].entries())
      tensors_.push_back({.name = entry.name, .view = files_[i].view(entry), .file = i});
  sort_by(tensors_, [](const CheckpointTensor& a, const CheckpointTensor& b) {
    return a.name != b.name ? a.name < b.name : a.file < b.file;
  });
  for (std::size_t i = 1; i < tensors_.size(); ++i) {
    if (tensors_[i].name != tensors_[i - 1].name) continue;
    throw load_error(ErrorCode::bad_file,
                     concat(path_of(tensors_[i]), ": ", tensors_[i].name,
                            ": expected each tensor in one shard, got ", "it in ", path_of(tensors_[i - 1]),
                            " too"),
                     {.file = path_of(tensors_[i]), .key = std::string(tensors_[i].name)});
  }
}
#endif

} // namespace tenon

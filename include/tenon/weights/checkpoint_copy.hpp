// SPDX-License-Identifier: Apache-2.0
// A checkpoint written anew with some of its tensors changed, as a stream: each file's header and data go through
// in the order in which they lie, a tensor either as its bytes are or as rows that an edit makes. Shards, their
// names, the index, the metadata and the layout stay: where nothing changes, neither does a byte. Files are written
// beside their paths and take their names together at the end; whoever stops before that leaves nothing behind.
// Cost: one read and one write of everything; one buffer of memory, entered as scratch. Pages of the input are let
// go of once they are written. One thread.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/progress.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/weights/checkpoint.hpp>
#include <tenon/weights/safetensors_writer.hpp>
#include <tenon/weights/temporary_file.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

/// What becomes of the tensors of a checkpoint. A tensor's rows are the slices of its first dimension.
class CheckpointEdit {
 public:
  virtual ~CheckpointEdit() = default;
  /// Whether `rows` is to be asked for this tensor; else its bytes are copied.
  [[nodiscard]] virtual bool changes(const CheckpointTensor& tensor) const = 0;
  /// Writes rows [first, first + count) of the new tensor to `out`, in the old one's dtype. Called in the order of
  /// the rows. What it throws goes through.
  virtual void rows(const CheckpointTensor& tensor, std::int64_t first, std::int64_t count,
                    std::byte* out) = 0;
};

struct CheckpointCopyOptions {
  std::int64_t buffer_bytes = 8 * 1024 * 1024; ///< written together; one row of a changed tensor at least
  std::vector<MetadataPair> metadata{};        ///< set in each file, beside what is there
  ProgressCallback progress{};                 ///< after each buffer; false: `error{cancelled}`
  Ledger* ledger = nullptr;                    ///< where the buffer is entered; the process's if null
};

struct CheckpointCopied {
  std::int64_t tensors = 0;
  std::int64_t changed = 0; ///< tensors among them
  std::int64_t bytes = 0;   ///< of all data
  std::vector<std::string> files{};
};

/// Writes `from` with `edit` to `to`: a file for a checkpoint of one file, else a folder, which is made if it is
/// not there. Throws `error{bad_argument}` for a path that is one of the input's, `error{io}` when the system takes
/// no more bytes, `error{cancelled}`.
[[nodiscard]] CheckpointCopied copy_checkpoint(const Checkpoint& from, const std::string& to,
                                               CheckpointEdit& edit,
                                               const CheckpointCopyOptions& options = {});

/// Folders made for an output; the empty ones among them go again unless they are kept.
class MadeFolders {
 public:
  MadeFolders() = default;
  MadeFolders(const MadeFolders&) = delete;
  MadeFolders& operator=(const MadeFolders&) = delete;
  ~MadeFolders() {
    std::error_code ignored;
    for (; !made_.empty(); made_.pop_back())
      if (!is_kept_) std::filesystem::remove(made_.back(), ignored);
  }
  void make(const std::filesystem::path& folder) {
    if (folder.empty() || std::filesystem::exists(folder)) return;
    make(folder.parent_path());
    std::error_code problem;
    if (!std::filesystem::create_directory(folder, problem) && problem)
      throw error(ErrorCode::io,
                  concat(folder.string(), ": expected a folder that can be made, got ", problem.message()),
                  {.file = folder.string()});
    made_.push_back(folder);
  }
  void keep() noexcept { is_kept_ = true; }

 private:
  std::vector<std::filesystem::path> made_{};
  bool is_kept_ = false;
};

/// One copy at work.
class CheckpointCopy {
 public:
  CheckpointCopy(const Checkpoint& from, CheckpointEdit& edit, const CheckpointCopyOptions& options)
      : from_(from), edit_(edit), options_(options) {}

  [[nodiscard]] CheckpointCopied run(const std::string& to) {
    const std::string source = checkpoint_path(from_.path());
    const bool has_index = source.ends_with(".json");
    plan(source, to, has_index);
    for (std::size_t i = 0; i < from_.files().size(); ++i) write_file(i);
    if (has_index) write_index(source, copied_.files.back());
    from_.check_unchanged();
    for (TemporaryFile& file : outputs_) file.publish();
    folders_.keep();
    return std::move(copied_);
  }

 private:
  [[noreturn]] static void refuse(const std::string& path, std::string_view expected, std::string_view got) {
    throw error(ErrorCode::bad_argument, concat(path, ": expected ", expected, ", got ", got),
                {.file = path});
  }

  /// Where each file goes, how much there is to do, and the buffer for it.
  void plan(const std::string& source, const std::string& to, bool has_index) {
    const bool is_file = to.ends_with(".safetensors");
    if (has_index && is_file) refuse(to, "a folder for the shards of an index", "the name of one file");
    const std::string folder = is_file || to.ends_with('/') ? to : to + "/";
    const std::size_t skip = folder_of(source).size();
    for (const SafetensorsFile& file : from_.files())
      copied_.files.push_back(is_file ? to : concat(folder, std::string_view(file.path()).substr(skip)));
    if (has_index) copied_.files.push_back(concat(folder, std::string_view(source).substr(skip)));
    for (const std::string& path : copied_.files) check_is_no_input(path, source);
    std::int64_t room = 1;
    for (const CheckpointTensor& tensor : from_.tensors()) {
      ++copied_.tensors;
      copied_.bytes += tensor.view.bytes();
      if (!edit_.changes(tensor) || tensor.view.size() == 0) continue;
      ++copied_.changed;
      room = std::max({room, row_bytes(tensor.view), std::min(tensor.view.bytes(), options_.buffer_bytes)});
    }
    buffer_ = Buffer(options_.ledger != nullptr ? *options_.ledger : process_ledger(), Category::scratch,
                     room, concat("writing ", to));
    for (const std::string& path : copied_.files) folders_.make(std::filesystem::path(path).parent_path());
  }

  void check_is_no_input(const std::string& path, const std::string& source) const {
    std::error_code ignored;
    bool is_input = std::filesystem::equivalent(path, source, ignored);
    for (const SafetensorsFile& file : from_.files())
      is_input = is_input || std::filesystem::equivalent(path, file.path(), ignored);
    if (is_input) refuse(path, "another place than the input's", "the input");
  }

  [[nodiscard]] static std::int64_t row_bytes(const TensorView& view) noexcept {
    return view.rank == 0 || view.extent(0) == 0 ? view.bytes() : view.bytes() / view.extent(0);
  }

  void write_file(std::size_t number) {
    const SafetensorsFile& file = from_.files()[number];
    TemporaryFile& out = outputs_.emplace_back(copied_.files[number]);
    std::vector<const CheckpointTensor*> tensors;
    for (const TensorEntry& entry : file.entries()) tensors.push_back(from_.find(entry.name));
    std::sort(tensors.begin(), tensors.end(), [](const CheckpointTensor* a, const CheckpointTensor* b) {
      return a->view.data != b->view.data ? a->view.data < b->view.data : a->view.bytes() < b->view.bytes();
    });
    write_header(out, file, tensors);
    for (const CheckpointTensor* tensor : tensors) write_tensor(out, *tensor);
  }

  /// The input's own bytes, unless there is metadata to add.
  void write_header(TemporaryFile& out, const SafetensorsFile& file,
                    const std::vector<const CheckpointTensor*>& tensors) const {
    if (options_.metadata.empty())
      return out.write(file.contents().data(), static_cast<std::size_t>(file.header().data_begin));
    std::vector<MetadataPair> metadata = file.header().metadata;
    for (const MetadataPair& pair : options_.metadata) {
      const auto at = std::find_if(metadata.begin(), metadata.end(),
                                   [&](const MetadataPair& old) { return old.first == pair.first; });
      at == metadata.end() ? metadata.push_back(pair) : void(at->second = pair.second);
    }
    std::vector<NamedTensor> named;
    for (const CheckpointTensor* tensor : tensors) named.push_back({tensor->name, tensor->view});
    check_writable(copied_.files[0], named, metadata);
    write_safetensors_header(out, copied_.files[0], safetensors_header_text(named, metadata));
  }

  void write_tensor(TemporaryFile& out, const CheckpointTensor& tensor) {
    const TensorView& view = tensor.view;
    if (view.size() == 0) return;
    const bool is_changed = edit_.changes(tensor);
    const std::int64_t unit = is_changed ? row_bytes(view) : 1;
    const std::int64_t step = std::max(options_.buffer_bytes / unit, std::int64_t{1}) * unit;
    for (std::int64_t at = 0; at < view.bytes(); at += step) {
      const std::int64_t bytes = std::min(step, view.bytes() - at);
      if (is_changed) edit_.rows(tensor, at / unit, bytes / unit, buffer_.data());
      out.write(is_changed ? buffer_.data() : view.data + at, static_cast<std::size_t>(bytes));
      drop_pages({.data = view.data + at, .bytes = static_cast<std::size_t>(bytes)});
      done_ += bytes;
      if (!options_.progress({tensor.name, done_, copied_.bytes}))
        throw error(ErrorCode::cancelled,
                    concat("writing ", copied_.files[0], ": stopped at ", tensor.name, ", ",
                           bytes_text(done_), " of ", bytes_text(copied_.bytes), " done"));
    }
  }

  /// As it is: names, shards and sizes are the same.
  void write_index(const std::string& source, const std::string& to) {
    const MappedFile index(source, options_.ledger != nullptr ? *options_.ledger : process_ledger(),
                           Category::base_mapped);
    outputs_.emplace_back(to).write(index.bytes().data(), index.bytes().size());
  }

  const Checkpoint& from_;
  CheckpointEdit& edit_;
  const CheckpointCopyOptions& options_;
  CheckpointCopied copied_{};
  Buffer buffer_{};
  MadeFolders folders_{}; // before the files, which go first
  std::deque<TemporaryFile> outputs_{};
  std::int64_t done_ = 0;
};

#if TENON_HAS_BODIES
TENON_INLINE CheckpointCopied copy_checkpoint(const Checkpoint& from, const std::string& to,
                                              CheckpointEdit& edit, const CheckpointCopyOptions& options) {
  return CheckpointCopy(from, edit, options).run(to);
}
#endif

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// The header of a safetensors file: 8 bytes of length (little-endian), then JSON that gives each tensor's
// dtype, shape and place in the data behind it. All of it is checked here, once: the tensors lie one after
// the other from the first data byte to the file's last, none overlaps, each has the bytes its shape asks
// for. Format: https://huggingface.co/docs/safetensors. Stricter than its reference reader where two readers
// could disagree about a file: a name twice, an unknown member, bytes before '{' are errors here. Cost: one
// pass over the header and a sort by name; look-up O(log n). Threads: no shared state.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/error.hpp>
#include <tenon/core/sort_by.hpp>
#include <tenon/core/text.hpp>
#include <tenon/weights/dtype.hpp>
#include <tenon/weights/tensor_view.hpp>

#include <algorithm>
#include <array>
#include <charconv>
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

/// As the reference reader has it.
inline constexpr std::int64_t safetensors_max_header_bytes = 100'000'000;

/// A tensor in a file. `begin` and `end` count bytes from the first data byte, as in the file's header.
struct TensorEntry {
  std::string name{};
  DType dtype = DType::f32;
  int rank = 0;
  std::array<std::int64_t, max_rank> extents{};
  std::int64_t begin = 0;
  std::int64_t end = 0;

  [[nodiscard]] std::span<const std::int64_t> shape() const noexcept {
    return {extents.data(), static_cast<std::size_t>(rank)};
  }
  /// "[384, 1536] F32"
  [[nodiscard]] std::string text() const { return concat(shape_text(shape()), " ", dtype_name(dtype)); }
};

/// One line of a file's `__metadata__`: key and value.
using MetadataPair = std::pair<std::string, std::string>;

struct SafetensorsHeader {
  std::vector<TensorEntry> entries{};   ///< by name, in the order of its bytes
  std::vector<MetadataPair> metadata{}; ///< in the file's order
  std::int64_t data_begin = 0;          ///< byte of the file at which the data begins

  /// nullptr if the file has no tensor of this name. Cost: O(log n).
  [[nodiscard]] const TensorEntry* find(std::string_view name) const noexcept {
    const auto at = std::lower_bound(entries.begin(), entries.end(), name,
                                     [](const TensorEntry& e, std::string_view key) { return e.name < key; });
    return at != entries.end() && at->name == name ? &*at : nullptr;
  }
  /// The value of a metadata key; nullptr if there is none. Cost: linear.
  [[nodiscard]] const std::string* metadata_value(std::string_view key) const noexcept {
    for (const MetadataPair& pair : metadata)
      if (pair.first == key) return &pair.second;
    return nullptr;
  }
};

/// Reads and checks the header of `file`, a safetensors file's bytes from its first to its last.
/// Throws `load_error{bad_file}`: "<path>: <tensor>: expected ..., got ...".
[[nodiscard]] TENON_INLINE SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                                                      std::string_view path);

#if TENON_HAS_BODIES
/// The reader behind `parse_safetensors_header`: what it needs for its messages, and one check a function.
class SafetensorsHeaderParser {
 public:
  SafetensorsHeaderParser(std::span<const std::byte> file, std::string_view path) noexcept
      : file_(file), path_(path) {}

  [[nodiscard]] SafetensorsHeader parse() {
    const std::string_view json = read_json();
    const JsonValue root = parse_json(json, {.file = path_, .first_byte = 8});
    header_.data_begin = static_cast<std::int64_t>(8 + json.size());
    header_.entries.reserve(root.members.size());
    for (const JsonMember& member : root.members)
      member.key == "__metadata__" ? read_metadata(member.value) : read_entry(member);
    check_coverage();
    sort_by(header_.entries, [](const TensorEntry& a, const TensorEntry& b) { return a.name < b.name; });
    return std::move(header_);
  }

 private:
  [[noreturn]] void refuse(std::string_view key, std::string_view expected, std::string_view got) const {
    throw load_error(ErrorCode::bad_file,
                     concat(path_, key.empty() ? "" : ": ", key, ": expected ", expected, ", got ", got),
                     {.file = std::string(path_), .key = std::string(key)});
  }

  [[nodiscard]] std::string_view read_json() const {
    if (file_.size() < 8) refuse("", "at least 8 bytes", concat(file_.size()));
    std::uint64_t length = 0;
    for (std::size_t i = 8; i-- > 0;) length = length << 8U | std::to_integer<std::uint64_t>(file_[i]);
    if (length == 0) refuse("", "a header", "a header length of 0");
    if (length > safetensors_max_header_bytes)
      refuse("", concat("a header of at most ", safetensors_max_header_bytes, " bytes"), concat(length));
    if (length > file_.size() - 8)
      refuse("", concat("a header that ends in the file's ", file_.size(), " bytes"),
             concat("a header length of ", length));
    const std::string_view json(reinterpret_cast<const char*>(file_.data()) + 8,
                                static_cast<std::size_t>(length));
    if (json[0] != '{') refuse("", "a header that begins with '{'", byte_text(json[0]));
    return json;
  }

  void read_metadata(const JsonValue& value) {
    if (value.is_null()) return; // as the reference reader does
    if (value.kind != JsonKind::object) refuse("__metadata__", "an object of strings", json_text(value));
    for (const JsonMember& pair : value.members) {
      if (pair.value.kind != JsonKind::string)
        refuse("__metadata__", concat("a string for ", json_quote(pair.key)), json_text(pair.value));
      header_.metadata.emplace_back(pair.key, pair.value.text);
    }
  }

  void read_entry(const JsonMember& member) {
    const JsonValue& value = member.value;
    if (value.kind != JsonKind::object)
      refuse(member.key, "an object of dtype, shape and data_offsets", json_text(value));
    for (const JsonMember& part : value.members)
      if (part.key != "dtype" && part.key != "shape" && part.key != "data_offsets")
        refuse(member.key, "no members but dtype, shape and data_offsets", json_quote(part.key));
    TensorEntry entry{.name = member.key};
    read_dtype(entry, part(member, "dtype"));
    read_shape(entry, part(member, "shape"));
    read_offsets(entry, part(member, "data_offsets"));
    check_size(entry);
    header_.entries.push_back(std::move(entry));
  }
  [[nodiscard]] const JsonValue& part(const JsonMember& entry, std::string_view name) const {
    const JsonValue* const value = entry.value.find(name);
    if (value == nullptr) refuse(entry.key, concat("a member ", name), "none");
    return *value;
  }

  void read_dtype(TensorEntry& entry, const JsonValue& value) const {
    const auto dtype = value.kind == JsonKind::string ? dtype_from_name(value.text) : std::nullopt;
    if (dtype) {
      entry.dtype = *dtype;
      return;
    }
    std::string known;
    for (const DTypeInfo& info : dtype_table) known += concat(known.empty() ? "" : ", ", info.name);
    refuse(entry.name, concat("a dtype of ", known), json_text(value));
  }

  void read_shape(TensorEntry& entry, const JsonValue& value) const {
    if (value.kind != JsonKind::array) refuse(entry.name, "a shape of whole numbers", json_text(value));
    if (value.items.size() > max_rank)
      refuse(entry.name, concat("at most ", max_rank, " dimensions"), concat(value.items.size()));
    for (const JsonValue& item : value.items)
      entry.extents[static_cast<std::size_t>(entry.rank++)] = whole_number(entry, "a shape", item);
  }

  void read_offsets(TensorEntry& entry, const JsonValue& value) const {
    if (value.kind != JsonKind::array || value.items.size() != 2)
      refuse(entry.name, "data_offsets of two whole numbers", json_text(value));
    entry.begin = whole_number(entry, "data_offsets", value.items[0]);
    entry.end = whole_number(entry, "data_offsets", value.items[1]);
    if (entry.begin > entry.end)
      refuse(entry.name, "data_offsets that begin before they end", range_text(entry));
  }

  [[nodiscard]] std::int64_t whole_number(const TensorEntry& entry, std::string_view part,
                                          const JsonValue& value) const {
    std::int64_t number = 0;
    const char* const end = value.text.data() + value.text.size();
    const bool digits = value.kind == JsonKind::number && value.text[0] != '-';
    const auto [stop, problem] = std::from_chars(value.text.data(), end, number);
    if (!digits || stop != end || problem != std::errc{})
      refuse(entry.name, concat(part, " of whole numbers from 0 to 2^63 - 1"), json_text(value));
    return number;
  }

  // An extent of 0 makes the tensor empty; the others must still multiply to something a stride can hold.
  void check_size(const TensorEntry& entry) const {
    std::int64_t bytes = dtype_bytes(entry.dtype);
    bool is_empty = false;
    for (const std::int64_t extent : entry.shape()) {
      if (extent == 0) is_empty = true;
      if (extent != 0 && bytes > INT64_MAX / extent)
        refuse(entry.name, "a shape of less than 2^63 bytes", entry.text());
      if (extent != 0) bytes *= extent;
    }
    if (is_empty) bytes = 0;
    if (entry.end - entry.begin != bytes)
      refuse(entry.name, concat(bytes, " bytes for ", entry.text()),
             concat(entry.end - entry.begin, " at ", range_text(entry)));
  }

  [[nodiscard]] static std::string range_text(const TensorEntry& entry) {
    return concat("[", entry.begin, ", ", entry.end, "]");
  }

  void check_coverage() {
    sort_by(header_.entries, [](const TensorEntry& a, const TensorEntry& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    const std::int64_t data_bytes = static_cast<std::int64_t>(file_.size()) - header_.data_begin;
    std::int64_t covered = 0;
    std::string_view before = "the header";
    for (const TensorEntry& entry : header_.entries) {
      const bool overlaps = entry.begin < covered;
      if (entry.begin != covered)
        refuse(entry.name, concat("data from byte ", covered, " on, where ", before, " ends"),
               concat(overlaps ? "the overlapping " : "a hole before ", range_text(entry)));
      if (entry.end > data_bytes)
        refuse(entry.name, concat("data inside the file's ", data_bytes, " data bytes"), range_text(entry));
      covered = entry.end;
      before = entry.name;
    }
    if (covered != data_bytes)
      refuse("", concat("tensors that cover the file's ", data_bytes, " data bytes"), concat(covered));
  }

  std::span<const std::byte> file_;
  std::string_view path_;
  SafetensorsHeader header_{};
};

TENON_INLINE SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                                        std::string_view path) {
  return SafetensorsHeaderParser(file, path).parse();
}
#endif

} // namespace tenon

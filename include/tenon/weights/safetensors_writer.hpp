// SPDX-License-Identifier: Apache-2.0
// Writes a safetensors file, byte for byte as the reference writer does: tensors by descending alignment of
// their dtypes, then by name, so that each lies aligned; the header padded with spaces to a multiple of 8.
// It goes to `<path>.tmp`, which is then renamed to `path`: a reader meets the old file or the new one, never
// half of either, and a mapping of the old one stays whole.
// Cost: tensors are streamed, not gathered in memory. Threads: one writer per path at a time.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/error.hpp>
#include <tenon/core/json_value.hpp>
#include <tenon/core/sort_by.hpp>
#include <tenon/core/text.hpp>
#include <tenon/core/utf8.hpp>
#include <tenon/weights/safetensors_header.hpp>
#include <tenon/weights/temporary_file.hpp>
#include <tenon/weights/tensor_view.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

/// A tensor and the name it is to have in a file.
struct NamedTensor {
  std::string_view name{};
  TensorView tensor{};
};

/// Writes `tensors` to a file at `path`; a view that is not contiguous is written row-major. `metadata` keeps
/// its order (the reference writer's changes from run to run); none, and the header has no `__metadata__`.
/// Throws `error{bad_argument}` for a name given twice or reserved or a text that is not UTF-8, `error{io}`
/// when the system takes no more bytes; what was at `path` is then still there, and `<path>.tmp` is not.
void write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                       std::span<const MetadataPair> metadata = {});

/// The reference writer's order of dtypes, greatest alignment first.
[[nodiscard]] constexpr int safetensors_order(DType dtype) noexcept {
  constexpr std::array order{DType::u64,     DType::i64,     DType::f64, DType::f32, DType::u32,
                             DType::i32,     DType::bf16,    DType::f16, DType::u16, DType::i16,
                             DType::f8_e4m3, DType::f8_e5m2, DType::i8,  DType::u8,  DType::boolean};
  int at = 0;
  while (order[static_cast<std::size_t>(at)] != dtype) ++at;
  return at;
}

/// The elements of `tensor` in row-major order, in runs as long as its strides allow.
inline void write_elements(TemporaryFile& out, const TensorView& tensor) {
  int outer = tensor.rank; // axes from here on are one run of neighbours
  std::int64_t run = 1;
  while (outer > 0 && (tensor.extent(outer - 1) == 1 || tensor.stride(outer - 1) == run))
    run *= tensor.extent(--outer);
  const std::int64_t element = dtype_bytes(tensor.dtype);
  const std::int64_t runs = run == 0 ? 0 : tensor.size() / run;
  std::array<std::int64_t, max_rank> index{};
  for (std::int64_t written = 0; written < runs; ++written) {
    std::int64_t offset = 0;
    for (int axis = 0; axis < outer; ++axis)
      offset += index[static_cast<std::size_t>(axis)] * tensor.stride(axis);
    out.write(tensor.data + offset * element, static_cast<std::size_t>(run * element));
    for (int axis = outer; axis-- > 0;) {
      if (++index[static_cast<std::size_t>(axis)] < tensor.extent(axis)) break;
      index[static_cast<std::size_t>(axis)] = 0;
    }
  }
}

/// The header for tensors that follow each other in this order, padded.
[[nodiscard]] inline std::string safetensors_header_text(std::span<const NamedTensor> tensors,
                                                         std::span<const MetadataPair> metadata) {
  std::string out = "{";
  const auto key = [&out](std::string_view name) {
    out += concat(out.back() == '{' ? "" : ",", json_quote(name), ":");
  };
  if (!metadata.empty()) {
    key("__metadata__");
    out += '{';
    for (const auto& [name, value] : metadata) {
      key(name);
      out += json_quote(value);
    }
    out += '}';
  }
  std::int64_t begin = 0;
  for (const auto& [name, tensor] : tensors) {
    key(name);
    out += concat("{\"dtype\":\"", dtype_name(tensor.dtype), "\",\"shape\":[");
    for (int axis = 0; axis < tensor.rank; ++axis) out += concat(axis == 0 ? "" : ",", tensor.extent(axis));
    out += concat("],\"data_offsets\":[", begin, ",", begin + tensor.bytes(), "]}");
    begin += tensor.bytes();
  }
  out += '}';
  out.append((8 - out.size() % 8) % 8, ' ');
  return out;
}

/// Throws for what no safetensors file can hold.
inline void check_writable(const std::string& path, std::span<const NamedTensor> tensors,
                           std::span<const MetadataPair> metadata) {
  const auto refuse = [&path](std::string_view key, std::string_view expected, std::string_view got) {
    throw error(ErrorCode::bad_argument, concat(path, ": ", key, ": expected ", expected, ", got ", got),
                {.file = path, .key = std::string(key)});
  };
  std::vector<std::string_view> names;
  for (const NamedTensor& t : tensors) {
    if (!is_utf8(t.name)) refuse(t.name, "a name in UTF-8", "other bytes");
    if (t.name == "__metadata__") refuse(t.name, "another name for a tensor", "the reserved one");
    names.push_back(t.name);
  }
  std::vector<std::string_view> keys;
  for (const auto& [key, value] : metadata) {
    if (!is_utf8(key) || !is_utf8(value)) refuse("__metadata__", "keys and values in UTF-8", "other bytes");
    keys.push_back(key);
  }
  const auto repeated = [](std::vector<std::string_view>& list) {
    sort_by(list, [](std::string_view a, std::string_view b) { return a < b; });
    return std::adjacent_find(list.begin(), list.end());
  };
  if (const auto it = repeated(names); it != names.end()) refuse(*it, "each name once", "it twice");
  if (const auto it = repeated(keys); it != keys.end())
    refuse("__metadata__", "each key once", concat(json_quote(*it), " twice"));
}

/// A header's text behind its length. Throws `error{bad_argument}` if it is longer than readers take.
inline void write_safetensors_header(TemporaryFile& out, const std::string& path, const std::string& header) {
  if (static_cast<std::int64_t>(header.size()) > safetensors_max_header_bytes)
    throw error(ErrorCode::bad_argument,
                concat(path, ": expected a header of at most ", safetensors_max_header_bytes, " bytes, got ",
                       header.size()),
                {.file = path});
  std::array<unsigned char, 8> length{};
  for (std::size_t i = 0; i < 8; ++i)
    length[i] = static_cast<unsigned char>(header.size() >> (8 * i) & 0xFFU);
  out.write(length.data(), length.size());
  out.write(header.data(), header.size());
}

#if TENON_HAS_BODIES
TENON_INLINE void write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                                    std::span<const MetadataPair> metadata) {
  check_writable(path, tensors, metadata);
  std::vector<NamedTensor> ordered(tensors.begin(), tensors.end());
  sort_by(ordered, [](const NamedTensor& a, const NamedTensor& b) {
    const int left = safetensors_order(a.tensor.dtype);
    const int right = safetensors_order(b.tensor.dtype);
    return left != right ? left < right : a.name < b.name;
  });
  TemporaryFile out(path);
  write_safetensors_header(out, path, safetensors_header_text(ordered, metadata));
  for (const NamedTensor& t : ordered) write_elements(out, t.tensor);
  out.publish();
}
#endif

} // namespace tenon

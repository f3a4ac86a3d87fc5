// SPDX-License-Identifier: Apache-2.0
// The tensors of a file in the making: floats rounded once to the file's dtype, each under its name, entered in a
// ledger until they are written. Cost: the file's bytes. One thread.
#pragma once

#include <tenon/memory/buffer.hpp>
#include <tenon/weights/convert.hpp>
#include <tenon/weights/safetensors_writer.hpp>

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

class EncodedTensors {
 public:
  EncodedTensors(DType dtype, Ledger* ledger)
      : dtype_(dtype), ledger_(ledger != nullptr ? *ledger : process_ledger()) {
    if (!is_weight_dtype(dtype))
      throw error(ErrorCode::bad_argument,
                  concat("adapter file: expected F32, F16 or BF16 to write, got ", dtype_name(dtype)));
  }

  /// factor * values, in the file's dtype. Throws `error{bad_argument}` for a value that it cannot hold.
  void add(std::string name, std::vector<std::int64_t> shape, std::span<const float> values,
           double factor = 1) {
    std::vector<float> scaled(values.begin(), values.end());
    if (factor != 1)
      for (float& x : scaled) x = static_cast<float>(factor * static_cast<double>(x));
    add_as(dtype_, std::move(name), std::move(shape), scaled);
  }
  /// The same, with the rows of a [rows, cols] matrix as columns.
  void add_transposed(std::string name, std::int64_t rows, std::int64_t cols, std::span<const float> values) {
    std::vector<float> turned(values.size());
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j)
        turned[static_cast<std::size_t>(j * rows + i)] = values[static_cast<std::size_t>(i * cols + j)];
    add_as(dtype_, std::move(name), {cols, rows}, turned);
  }
  /// A number without dimensions, as F32: a rounded alpha would be another scale.
  void add_number(std::string name, double value) {
    const auto number = static_cast<float>(value);
    add_as(DType::f32, std::move(name), {}, {&number, 1});
  }

  void write(const std::string& path, std::span<const MetadataPair> metadata) const {
    std::vector<NamedTensor> named;
    for (const Entry& entry : entries_)
      named.push_back({entry.name, TensorView(entry.bytes.data(), entry.dtype, entry.shape)});
    write_safetensors(path, named, metadata);
  }

 private:
  struct Entry {
    std::string name;
    DType dtype;
    std::vector<std::int64_t> shape;
    Buffer bytes;
  };

  void add_as(DType dtype, std::string name, std::vector<std::int64_t> shape, std::span<const float> values) {
    Buffer bytes(ledger_, Category::adapter, std::ssize(values) * dtype_bytes(dtype),
                 concat("encoding ", name));
    if (!values.empty()) encode(dtype, values.data(), std::ssize(values), bytes.data());
    for (std::int64_t i = 0; i < std::ssize(values); ++i) {
      float stored = 0;
      decode(dtype, bytes.data() + i * dtype_bytes(dtype), 1, &stored);
      if (std::isfinite(stored)) continue;
      const float value = values[static_cast<std::size_t>(i)];
      throw error(ErrorCode::bad_argument,
                  concat(name, ": expected values that ", dtype_name(dtype), " can hold, got ",
                         std::to_string(value), std::isfinite(value) ? "; write BF16 or F32" : ""),
                  {.key = name});
    }
    entries_.push_back({std::move(name), dtype, std::move(shape), std::move(bytes)});
  }

  DType dtype_;
  Ledger& ledger_;
  std::vector<Entry> entries_{};
};

} // namespace tenon

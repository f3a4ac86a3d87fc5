// SPDX-License-Identifier: Apache-2.0
// One projection of several: which rows of a file's tensor are meant for which rows of a model's weight, where one
// of the two holds the projections fused.
#pragma once

#include <tenon/formats/name_table.hpp>

#include <cstdint>
#include <optional>

namespace tenon {

/// Rows of the file's tensors that are meant, and where they go in the model's weight.
struct RowShare {
  std::int64_t file_row = 0;
  std::int64_t rows = 0;
  std::int64_t weight_row = 0;
};

/// For a weight of `weight_rows` and a tensor of `file_rows`; nothing where they cannot be what the name says.
/// Projections before the last are all of one size (q, k, v); the last takes what is left.
[[nodiscard]] constexpr std::optional<RowShare> row_share(const NamedModule& name, std::int64_t weight_rows,
                                                          std::int64_t file_rows) noexcept {
  if (name.share == NameShare::part && name.slice.size > 0) { // as the net declares it
    const auto [first, size, total] = name.slice;
    if (file_rows != (name.is_fused ? total : size)) return std::nullopt;
    return name.is_fused ? RowShare{first, size, 0} : RowShare{0, size, first};
  }
  if (name.share != NameShare::part)
    return file_rows == weight_rows ? std::optional(RowShare{0, file_rows, 0}) : std::nullopt;
  const std::int64_t rows = name.is_fused ? weight_rows : file_rows;
  const std::int64_t of = name.is_fused ? file_rows : weight_rows;
  const std::int64_t first = name.part + 1 == name.parts ? of - rows : name.part * rows;
  if (first < 0 || first + rows > of) return std::nullopt;
  return name.is_fused ? RowShare{first, rows, 0} : RowShare{0, rows, first};
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Rows of a table by number, as torch.nn.Embedding, decoded from the table's stored type.
// Cost: one row read and one written per id; no scratch, and no allocation unless it throws. Any thread.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/weights/convert.hpp>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// y [ids, width] = the rows `ids` of table [size, width]. Throws tenon::error (bad_argument), before
/// anything is written, when an id is negative or not below the table's size.
inline void embedding(std::span<const std::int32_t> ids, WeightMatrix table, Matrix y) {
  assert(y.rows == static_cast<std::int64_t>(ids.size()) && y.cols == table.cols &&
         "embedding: shapes [ids] [size,width] [ids,width]");
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= table.rows)
      throw error(ErrorCode::bad_argument, concat("embedding: id ", ids[i], " at position ", i,
                                                  " is outside the table of ", table.rows, " rows"));
  for (std::int64_t i = 0; i < y.rows; ++i)
    decode(table.dtype, table.at(ids[static_cast<std::size_t>(i)], 0), y.cols, y.row(i));
}

} // namespace tenon::kernels

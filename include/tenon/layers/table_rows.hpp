// SPDX-License-Identifier: Apache-2.0
// Rows of a table added to the rows of a wire: positions, kinds of token, the patches of an image; and which row each gets,
// for a step's function on the host and for that on a device.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/graph/step.hpp>
#include <tenon/kernels/add_rows.hpp>

#include <cstdint>

namespace tenon {

/// Row i of x gets row (top + i / width % height) * side + left + i % width of the table: a rectangle of a square, or with
/// a height of 1 some rows after one another.
struct TablePlaces {
  std::int64_t width = 1;
  std::int64_t left = 0;
  std::int64_t height = 1;
  std::int64_t top = 0;
  std::int64_t side = 0;

  [[nodiscard]] constexpr std::int64_t row(std::int64_t i) const noexcept {
    return (top + i / width % height) * side + left + i % width;
  }
};

/// Of AddPositions and AddEmbeddingRow. params.integers[0]: the row for every token, or -1 for row t at token t, after those
/// of earlier calls. Throws `shape_error` where the table has fewer rows than there are tokens.
[[nodiscard]] inline TablePlaces token_places(const StepContext& context) {
  const std::int64_t row = context.params.integers[0];
  if (row >= 0) return {.width = 1, .left = row};
  const WireView& x = context.inputs[0];
  const std::int64_t tokens = x.rows() / x.extent(0);
  const std::int64_t count = context.weights[0].extent(0);
  if (context.past + tokens > count)
    throw shape_error(ErrorCode::wrong_shape,
                      concat("position embeddings: expected at most ", count, " tokens, got ",
                             context.past + tokens, "; split the input"));
  return {.width = tokens, .left = context.past};
}

/// Of AddCroppedTable: the middle of a square. params.integers[0]: its side. Throws `shape_error` for an image [batch,
/// height, width, d] larger than that.
[[nodiscard]] inline TablePlaces cropped_places(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const std::int64_t side = context.params.integers[0];
  const std::int64_t height = x.extent(1);
  const std::int64_t width = x.extent(2);
  if (height > side || width > side)
    throw shape_error(ErrorCode::wrong_shape, concat("positions: expected an image of at most ", side, " x ",
                                                     side, " patches, got ", height, " x ", width));
  return {
      .width = width, .left = (side - width) / 2, .height = height, .top = (side - height) / 2, .side = side};
}

/// output = x + table[places.row(i)] for each row i.
inline void add_table_rows(const StepContext& context, const kernels::WeightMatrix& table,
                           const TablePlaces& places) {
  const WireView& x = context.inputs[0];
  for (std::int64_t i = 0; i < x.rows(); ++i)
    kernels::add_table_row(x.const_matrix().row_span(i), table, places.row(i),
                           context.output.matrix().row_span(i));
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Rows of a table added to the rows of a wire: positions, kinds of token, the patches of an image.
#pragma once

#include <tenon/graph/step.hpp>
#include <tenon/kernels/add_rows.hpp>

#include <cstdint>

namespace tenon {

/// output = x + table[row_of(i)] for each row i.
template <class RowOf>
void add_table_rows(const StepContext& context, const kernels::WeightMatrix& table, const RowOf& row_of) {
  const WireView& x = context.inputs[0];
  for (std::int64_t i = 0; i < x.rows(); ++i)
    kernels::add_table_row(x.const_matrix().row_span(i), table, row_of(i),
                           context.output.matrix().row_span(i));
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// y = x + rows of a stored table on a device: positions, kinds of token, the patches of an image (kernels/add_rows.hpp).
// The output may be the input's buffer.
#pragma once

#include <tenon/gpu/device_run.hpp>
#include <tenon/gpu/storage.hpp>

#include <cstdint>

namespace tenon::gpu {

/// Row i of x gets row (top + i / width % height) * side + left + i % width of the table: a rectangle of a square, or with
/// a height of 1 some rows after one another.
struct TablePlaces {
  std::int64_t width = 1;
  std::int64_t left = 0;
  std::int64_t height = 1;
  std::int64_t top = 0;
  std::int64_t side = 0;

  TENON_HD std::int64_t row(std::int64_t i) const {
    return (top + i / width % height) * side + left + i % width;
  }
};

template <class Storage>
struct AddTableElement {
  const float* x;
  float* y;
  StoredPointer<Storage> table;
  std::int64_t width;
  TablePlaces places;
  TENON_HD void operator()(std::int64_t i) const {
    y[i] = x[i] + table[places.row(i / width) * width + i % width];
  }
};

/// x [..., d] + rows of the step's first weight, d wide -> as x.
inline void add_table_rows(const StepContext& context, const TablePlaces& places) {
  const WireView& x = context.inputs[0];
  const TensorView& table = context.weights[0];
  with_storage(table.dtype, [&]<class Storage>(Storage) {
    for_each_index(context.device->queue, x.size(),
                   AddTableElement<Storage>{x.values().data(), context.output.values().data(),
                                            StoredPointer<Storage>(table.data), x.width(), places});
  });
}

} // namespace tenon::gpu

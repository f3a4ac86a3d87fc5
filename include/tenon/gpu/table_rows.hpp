// SPDX-License-Identifier: Apache-2.0
// y = x + rows of a stored table on a device: positions, kinds of token, the patches of an image (kernels/add_rows.hpp).
// The output may be the input's buffer.
#pragma once

#include <tenon/gpu/device_run.hpp>
#include <tenon/gpu/storage.hpp>
#include <tenon/layers/table_rows.hpp>

#include <cstdint>

namespace tenon::gpu {

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

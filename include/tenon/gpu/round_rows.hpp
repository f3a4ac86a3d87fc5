// SPDX-License-Identifier: Apache-2.0
// Activations rounded to 16 bits, for products that take both operands in the weight's type. Cost: 6 bytes of traffic
// an element.
#pragma once

#include <tenon/gpu/queue.hpp>
#include <tenon/gpu/row_col.hpp>
#include <tenon/gpu/storage.hpp>
#include <tenon/kernels/matrix.hpp>

#include <cstdint>

namespace tenon::gpu {

template <class Storage>
struct RoundRows {
  const float* x;
  std::int64_t x_stride;
  std::int64_t cols;
  typename Storage::bits* to;
  std::int64_t to_stride;

  TENON_HD void operator()(std::int64_t i) const {
    const RowCol at = row_col(i, cols);
    to[at.row * to_stride + at.col] = Storage::from(x[at.row * x_stride + at.col]);
  }
};

/// to [x.rows, x.cols], rows `to_stride` elements apart, = x rounded to the nearest of `Storage`, ties to even.
template <class Storage>
void round_rows(Queue& queue, kernels::ConstMatrix x, typename Storage::bits* to, std::int64_t to_stride) {
  for_each_index(queue, x.rows * x.cols, RoundRows<Storage>{x.data, x.stride, x.cols, to, to_stride});
}

} // namespace tenon::gpu

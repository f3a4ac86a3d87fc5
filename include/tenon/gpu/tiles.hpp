// SPDX-License-Identifier: Apache-2.0
// Products whose rows are put together first (a convolution's patches, two wires side by side): a tile of rows at a time in
// a step's scratch.
#pragma once

#include <tenon/gpu/device_run.hpp>
#include <tenon/gpu/slot_product.hpp>
#include <tenon/graph/step.hpp>

#include <algorithm>
#include <cstdint>

namespace tenon::gpu {

/// Rows of a tile: about 32 MiB of floats, at least 64. Grows with `rows`.
[[nodiscard]] constexpr std::int64_t gathered_rows(std::int64_t rows, std::int64_t cols) noexcept {
  constexpr std::int64_t floats = std::int64_t{8} * 1024 * 1024;
  return std::min(rows, std::max<std::int64_t>(floats / cols, 64));
}

/// For x [rows, cols] that is gathered, w [out, cols].
[[nodiscard]] constexpr std::int64_t gathered_product_scratch_bytes(std::int64_t rows, std::int64_t out,
                                                                    std::int64_t cols) noexcept {
  const std::int64_t tile = gathered_rows(rows, cols);
  return DeviceScratch::rounded(tile * cols * static_cast<std::int64_t>(sizeof(float))) +
         slot_product_scratch_bytes(tile, out, cols);
}

/// `slot_product` of rows that `gather(first, count, to)` puts on the queue, `to` [count, cols].
template <class Gather>
void gathered_product(const StepContext& context, std::int64_t cols, const Gather& gather) {
  const kernels::Matrix y = context.output.matrix();
  const std::int64_t step = gathered_rows(y.rows, cols);
  DeviceScratch scratch(context.device->scratch);
  float* const tile = scratch.take<float>(step * cols);
  for (std::int64_t i = 0; i < y.rows; i += step) {
    const std::int64_t count = std::min(step, y.rows - i);
    gather(i, count, tile);
    slot_product(context, {tile, count, cols, cols}, y.rows_from(i, count), scratch);
  }
}

} // namespace tenon::gpu

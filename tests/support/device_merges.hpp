// SPDX-License-Identifier: Apache-2.0
// Merges by the function behind a device's lanes, where device memory is the host's: into rows of any stride.
#pragma once

#include <tenon/gpu/merge.hpp>

#include <support/merge_case.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tenon::test {

/// A merge by `run(segment)` out of place, into rows with `padding` between them, which must stay as it is.
template <class Run>
[[nodiscard]] std::vector<std::byte> merged_with(const MergeCase& c, std::int64_t padding, const Run& run) {
  const kernels::WeightMatrix& base = c.base.view;
  const std::int64_t element = dtype_bytes(base.dtype);
  const std::int64_t stride = base.cols + padding;
  PlacedBytes out(base.rows * stride * element, 0);
  run(gpu::MergeOutput{.data = out.data(), .stride = stride});
  for (std::int64_t i = 0; i < base.rows; ++i)
    for (std::int64_t k = base.cols * element; k < stride * element; ++k)
      if (out.data()[i * stride * element + k] != std::byte{0xFF}) return {};
  return rows_of({out.data(), base.dtype, base.rows, base.cols, stride});
}

[[nodiscard]] inline std::vector<std::byte> merged_on_device(const MergeCase& c, std::int64_t padding = 0) {
  gpu::Queue queue;
  std::vector<std::byte> room(static_cast<std::size_t>(gpu::merge_room_bytes(std::ssize(c.terms))));
  return merged_with(c, padding, [&](const gpu::MergeOutput& out) {
    gpu::merge(queue, c.base.view, c.terms, out, room);
    queue.wait();
  });
}

} // namespace tenon::test

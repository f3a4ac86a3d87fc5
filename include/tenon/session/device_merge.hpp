// SPDX-License-Identifier: Apache-2.0
// Overlays in a device's memory. The device merges LoRA itself. What its merge does not do (other kinds, factors of 8
// bits, a loss that is measured) the host merges from the pristine weight in the file's mapping, by the code of a
// session on the host and so to the same bits; some rows are merged, then uploaded, and so on. Cost of that: the host's
// merge by one thread, and the weight's bytes over the lane. Neither allocates beside what the lane stages.
#pragma once

#include <tenon/core/units.hpp>
#include <tenon/session/device.hpp>
#include <tenon/session/device_share.hpp>
#include <tenon/session/overlay_pass.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace tenon {

inline constexpr std::int64_t uploaded_bytes =
    4 * MiB; ///< merged by the host before they are uploaded together

/// How many of a weight's rows those are: whole blocks of a measured loss, one at least.
[[nodiscard]] inline std::int64_t uploaded_rows(const kernels::WeightMatrix& weight) noexcept {
  const std::int64_t row_bytes = weight.cols * dtype_bytes(weight.dtype);
  const std::int64_t blocks = std::max(uploaded_bytes / row_bytes / loss_block_rows, std::int64_t{1});
  return std::min(blocks * loss_block_rows, weight.rows);
}

#if TENON_HAS_BODIES
TENON_INLINE void HostRoom::cover_merge_of(const kernels::WeightMatrix& weight) noexcept {
  rows = std::max(rows, kernels::scratch_bytes<std::byte>(uploaded_rows(weight) * weight.cols *
                                                          dtype_bytes(weight.dtype)));
  cover(kernels::merge_deltas_scratch_bytes(weight.rows, weight.cols));
}
TENON_INLINE void HostRoom::cover(std::int64_t scratch_bytes) noexcept {
  scratch = std::max(scratch, kernels::scratch_bytes<std::byte>(scratch_bytes));
}
#endif

/// Writes the terms of `node`, over the overlays from `below` down but for `skipped`, to its data in the device's
/// memory. `after_band(bytes)` as in `write_overlay`. Throws as DeviceLane does; the rest is then not written.
/// Precondition: `node.is_merged_by_host()`.
template <class AfterBand>
void merge_by_host(SlotTable& slots, OverlayNode& node, const OverlayNode* below, const OverlayNode* skipped,
                   DeviceLane& lane, LossRoom loss, AfterBand after_band) {
  if (node.is_in_place) slots.mark_written(node.slot);
  OverlayPass pass{weight_matrix(slots.source(node.slot)), SlotTable::gather(node, below, skipped),
                   SlotTable::gather_deltas(node, below, skipped), node.host_rows.data(), loss};
  const std::int64_t row_bytes = pass.base.cols * dtype_bytes(pass.base.dtype);
  const std::int64_t step = uploaded_rows(pass.base);
  for (std::int64_t i = 0; i < pass.base.rows; i += step) {
    const std::int64_t rows = std::min(step, pass.base.rows - i);
    const auto bytes = static_cast<std::size_t>(rows * row_bytes);
    pass.out_row = i;
    pass.write_band(i, rows, node.host_scratch);
    lane.upload(node.data + i * row_bytes, node.host_rows.first(bytes));
    drop_pages({.data = pass.base.at(i, 0), .bytes = bytes}); // they only serve to start from
    after_band(rows * row_bytes);
  }
}

/// The same by the device's merge. Precondition: the host merges neither `node` nor an overlay below it.
inline void merge_by_device(SlotTable& slots, OverlayNode& node, const OverlayNode* below,
                            const OverlayNode* skipped, DeviceLane& lane) {
  const TensorView& source = slots.source(node.slot);
  kernels::WeightMatrix base = weight_matrix(slots.weight(node.slot));
  if (slots.is_written(node.slot)) { // by an overlay in place: the pristine bytes are the host's alone
    lane.upload(node.data, {source.data, static_cast<std::size_t>(source.bytes())});
    base.data = node.data;
  }
  if (node.is_in_place) slots.mark_written(node.slot);
  lane.merge(base, SlotTable::gather_on_device(node, below, skipped), node.data, node.device_room);
}

} // namespace tenon

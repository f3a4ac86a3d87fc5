// SPDX-License-Identifier: Apache-2.0
// What of an attach a device does itself, and what the host does for it: which of an adapter's tensors the device reads,
// and the bytes that the host takes for the rest (device_merge.hpp).
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/weights/dtype.hpp>

#include <algorithm>
#include <cstdint>

namespace tenon {

/// Whether a device takes factors of these types: it reads no numbers of 8 bits.
[[nodiscard]] inline bool is_read_on_device(const SlotFactors& factors) noexcept {
  return is_weight_dtype(factors.a.dtype) && is_weight_dtype(factors.b.dtype);
}
/// Whether the host merges the slot of a device whenever `adapter` is attached: it changes it by other kinds too (GLoRA).
[[nodiscard]] inline bool has_delta_at(const AdapterData& adapter, std::int32_t slot) noexcept {
  const auto at = std::lower_bound(adapter.deltas.begin(), adapter.deltas.end(), slot,
                                   [](const SlotDelta& delta, std::int32_t key) { return delta.slot < key; });
  return at != adapter.deltas.end() && at->slot == slot;
}
/// Whether a device reads the values as they are stored. Others are made on the host when they are attached.
[[nodiscard]] inline bool is_read_on_device(const SlotBias& bias) noexcept {
  return bias.of_weight == nullptr && is_weight_dtype(bias.values.dtype);
}

/// Bytes that the host takes where it merges for a device, or makes something of a weight.
struct HostRoom {
  std::int64_t rows = 0;    ///< until they are uploaded
  std::int64_t scratch = 0; ///< of the kernels

  [[nodiscard]] std::int64_t total() const noexcept { return rows + scratch; }
  TENON_INLINE void cover_merge_of(const kernels::WeightMatrix& weight) noexcept;
  TENON_INLINE void cover(std::int64_t scratch_bytes) noexcept;
};

} // namespace tenon

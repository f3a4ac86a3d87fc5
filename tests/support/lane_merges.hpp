// SPDX-License-Identifier: Apache-2.0
// Merges over a device's lane, of copies that lie as the host's do: each as far behind a boundary, with the same padding.
#pragma once

#include <support/device_step.hpp>
#include <support/merge_case.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tenon::test {

/// How far behind a boundary of 64 bytes these lie.
[[nodiscard]] inline std::int64_t shift_of(const std::byte* data) noexcept {
  return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(data) % 64);
}

/// Of a case, on the device.
struct LaneMerge {
  explicit LaneMerge(const MergeCase& c)
      : base(c.base.view), bytes(bytes_of(base), shift_of(base.data)),
        room(test_device().merge_room_bytes(std::ssize(c.terms))) {
    for (const kernels::LowRankTerm& term : c.terms)
      terms.push_back(views.of(term, shift_of(term.a.data), shift_of(term.b.data)));
    base.data = bytes.data();
  }
  /// Rows of what was merged into `out`; padding and guards must be as they were, and nothing may wait.
  [[nodiscard]] std::vector<std::byte> into(DeviceBytes& out) {
    DeviceLane& lane = test_lane();
    const std::vector<std::byte> before = out.on_host();
    const DeviceCounts counts = lane.counts();
    lane.merge(base, terms, out.data(), room.span());
    CHECK(lane.counts().waits == counts.waits);
    CHECK(lane.counts().merges == counts.merges + 1);
    CHECK(room.guard_untouched());
    CHECK(out.guard_untouched());
    const std::vector<std::byte> after = out.on_host();
    const std::int64_t width = base.cols * dtype_bytes(base.dtype);
    const std::int64_t stride = base.stride * dtype_bytes(base.dtype);
    bool is_padding_kept = true;
    for (std::int64_t i = 0; i < std::ssize(after); ++i)
      if (i % stride >= width)
        is_padding_kept =
            is_padding_kept && after[static_cast<std::size_t>(i)] == before[static_cast<std::size_t>(i)];
    CHECK(is_padding_kept);
    return rows_of({after.data(), base.dtype, base.rows, base.cols, base.stride});
  }

  kernels::WeightMatrix base;
  DeviceViews views{};
  DeviceBytes bytes;
  DeviceBytes room;
  std::vector<kernels::LowRankTerm> terms{};

 private:
  [[nodiscard]] static std::span<const std::byte> bytes_of(const kernels::WeightMatrix& m) noexcept {
    const std::int64_t elements = (m.rows - 1) * m.stride + m.cols;
    return {m.data, static_cast<std::size_t>(elements * dtype_bytes(m.dtype))};
  }
};

[[nodiscard]] inline std::vector<std::byte> merged_by_lane(const MergeCase& c) {
  LaneMerge merge(c);
  DeviceBytes out(merge.bytes.size());
  const std::vector<std::byte> base = merge.bytes.on_host();
  std::vector<std::byte> got = merge.into(out);
  CHECK(merge.bytes.on_host() == base);
  return got;
}

/// Over a copy of the base.
[[nodiscard]] inline std::vector<std::byte> merged_in_place(const MergeCase& c) {
  LaneMerge merge(c);
  return merge.into(merge.bytes);
}

} // namespace tenon::test

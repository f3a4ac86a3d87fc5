// SPDX-License-Identifier: Apache-2.0
// Device memory for tests that know a device as a session does: bytes go there over a lane and come back over it. What
// the device is depends on what is linked; its memory may be another than the host's.
#pragma once

#include <tenon/gpu.hpp>
#include <tenon/weights/tensor_view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tenon::test {

/// One for the process; throws `error{device_failed}` where there is none.
[[nodiscard]] inline Device& test_device() { return *DefaultDevice<MemorySpace::device>::open(); }

/// Of what tests put on the device and of the memory they bring it back to. Neither it nor the lane ever ends: when
/// statics do, a driver may have gone before.
[[nodiscard]] inline Ledger& test_ledger() {
  static Ledger* const ledger = new Ledger;
  return *ledger;
}
[[nodiscard]] inline DeviceLane& test_lane() {
  static DeviceLane* const lane = test_device().make_lane(test_ledger()).release();
  return *lane;
}

/// Whether products with weights of 16 bits round what they multiply to the weights' type: a GPU's units do, the
/// processor in a device's place has no reason to.
[[nodiscard]] inline bool rounds_to_weights() { return test_device().name().starts_with("CUDA"); }

/// Host memory that a lane copies to.
[[nodiscard]] inline Buffer pinned_bytes(std::int64_t bytes) {
  return Buffer(test_ledger(), Category::scratch, bytes, "bring bytes back", test_device().pinned_memory());
}

/// `bytes` of device memory, after all that `lane` was given.
[[nodiscard]] inline std::vector<std::byte> downloaded(const std::byte* from, std::int64_t bytes,
                                                       DeviceLane& lane = test_lane()) {
  const Buffer pinned = pinned_bytes(bytes);
  lane.download(const_cast<std::byte*>(pinned.data()), from, bytes);
  lane.wait();
  return {pinned.data(), pinned.data() + bytes};
}

/// Device memory from `shift` bytes behind a boundary of `device_alignment` on. All of it, and the guard behind it, is
/// 0xFF at first: NaN in every float type.
class DeviceBytes {
 public:
  explicit DeviceBytes(std::int64_t size, std::int64_t shift = 0) : shift_(shift), size_(size) {
    Ledger& ledger = test_ledger().on_device(test_device().memory(), test_device().name());
    block_ = Buffer(ledger, Category::scratch, shift + size + guard, "hold a test's bytes");
    const std::vector<std::byte> ones(
        static_cast<std::size_t>(std::min(block_.bytes(), std::int64_t{1} << 20)), std::byte{0xFF});
    for (std::int64_t at = 0; at < block_.bytes(); at += std::ssize(ones))
      test_lane().upload(block_.data() + at, std::span(ones).first(static_cast<std::size_t>(
                                                 std::min(std::ssize(ones), block_.bytes() - at))));
  }
  explicit DeviceBytes(std::span<const std::byte> from, std::int64_t shift = 0)
      : DeviceBytes(std::ssize(from), shift) {
    test_lane().upload(data(), from);
  }
  /// Of a contiguous tensor.
  explicit DeviceBytes(const TensorView& from)
      : DeviceBytes(std::span(from.data, static_cast<std::size_t>(from.bytes()))) {}

  [[nodiscard]] std::byte* data() noexcept { return block_.data() + shift_; }
  [[nodiscard]] const std::byte* data() const noexcept { return block_.data() + shift_; }
  [[nodiscard]] std::int64_t size() const noexcept { return size_; }
  [[nodiscard]] std::span<std::byte> span() noexcept { return {data(), static_cast<std::size_t>(size_)}; }

  [[nodiscard]] std::vector<std::byte> on_host() const { return downloaded(data(), size_); }
  [[nodiscard]] bool guard_untouched() const {
    return std::ranges::all_of(downloaded(data() + size_, guard),
                               [](std::byte b) { return b == std::byte{0xFF}; });
  }

 private:
  static constexpr std::int64_t guard = 256;
  std::int64_t shift_;
  std::int64_t size_;
  Buffer block_{};
};

} // namespace tenon::test

// SPDX-License-Identifier: Apache-2.0
// Recording a session's passes on a device: the second pass of the same dimensions with the same things attached is
// recorded, and from then on replayed as a whole, without the host going through the steps. (The first runs as it is, so
// that libraries have set themselves up.) What may change without a new recording are inputs and the scales of side
// terms.
#pragma once

#include <tenon/graph/program.hpp>
#include <tenon/session/device.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tenon {

/// What a recording holds good for.
struct PassKey {
  Dims dims{};
  std::uint64_t attached = 0;         ///< a number of all that slots compute with
  const std::byte* memory = nullptr;  ///< of the activations
  const std::byte* scratch = nullptr; ///< of the steps

  friend bool operator==(const PassKey&, const PassKey&) = default;
};

class PassRecorder {
 public:
  /// Forgets what was recorded where it no longer records.
  void enable(bool records) {
    enabled_ = records;
    recording_.reset();
    seen_ = 0;
  }

  /// Runs a pass: `steps()` gives its steps to the lane. What it throws goes through; nothing is then recorded.
  template <class Steps>
  void run(DeviceLane& lane, const PassKey& key, Steps steps) {
    if (!enabled_) return steps();
    if (!(key == key_)) {
      recording_.reset();
      key_ = key;
      seen_ = 0;
    }
    if (++seen_ == 1) return steps();
    if (recording_ == nullptr) {
      lane.begin_recording();
      try {
        steps();
      } catch (...) {
        lane.drop_recording();
        throw;
      }
      recording_ = lane.end_recording();
    }
    lane.replay(*recording_);
  }

 private:
  bool enabled_ = false;
  PassKey key_{};
  std::int64_t seen_ = 0;
  std::unique_ptr<DeviceRecording> recording_{};
};

} // namespace tenon

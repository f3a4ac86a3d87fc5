// SPDX-License-Identifier: Apache-2.0
// A device as a session sees it: memory, functions for a program's steps, and lanes, on which work is done in order.
// What stands behind it is <tenon/gpu.hpp>'s; nothing here needs CUDA or Thrust, so that a program's model and session
// are compiled by an ordinary compiler and only the device's code by nvcc.
#pragma once

#include <tenon/graph/step.hpp>
#include <tenon/memory/ledger.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace tenon {

/// Tensors on a device begin at multiples of this.
inline constexpr std::int64_t device_alignment = 256;
[[nodiscard]] constexpr std::int64_t on_device_boundary(std::int64_t bytes) noexcept {
  return (bytes + device_alignment - 1) / device_alignment * device_alignment;
}

/// What an op runs on a device.
struct DeviceFunctions {
  StepFunction run = nullptr;
  ScratchFunction scratch = nullptr; ///< bytes of device memory, for these extents; null: none
};

/// What went over a lane since it was made.
struct DeviceCounts {
  std::int64_t uploads = 0; ///< from host memory, in calls and in bytes
  std::int64_t upload_bytes = 0;
  std::int64_t downloads = 0;
  std::int64_t download_bytes = 0;
  std::int64_t steps = 0;
  std::int64_t merges = 0;
  std::int64_t recordings = 0; ///< of passes
  std::int64_t replays = 0;
  std::int64_t waits = 0; ///< of the calling thread, for the device

  friend bool operator==(const DeviceCounts&, const DeviceCounts&) = default;
};

/// Work that a lane recorded, to be done again as a whole. It outlives no lane.
class DeviceRecording {
 public:
  virtual ~DeviceRecording() = default;
};

/// A queue of work on a device: what is given to it is done in that order, beside other lanes. Its members return
/// before the work is done, but for `wait` and where an upload waits for room in its staging memory; each wait is
/// counted. Not for two threads at once. All throw `error{device_failed}` with the driver's words.
class DeviceLane {
 public:
  virtual ~DeviceLane() = default;

  /// A step, with the scratch that its function asked for. `fault` [1], device memory: see DeviceRun.
  virtual void run(StepFunction function, StepContext context, std::span<std::byte> scratch,
                   std::int32_t* fault) = 0;
  /// out [rows of base] = base + what the terms add, in one pass, rounded once; `out` may be the base's own bytes.
  /// `room`: device memory of `Device::merge_room_bytes`, the merge's own until it is done.
  virtual void merge(const kernels::WeightMatrix& base, std::span<const kernels::LowRankTerm> terms,
                     std::byte* out, std::span<std::byte> room) = 0;
  /// To device memory from any host memory, which may be written again when it returns.
  virtual void upload(std::byte* to, std::span<const std::byte> from) = 0;
  /// To `Device::pinned_memory`, which holds the bytes after the next `wait`.
  virtual void download(std::byte* to, const std::byte* from, std::int64_t bytes) = 0;
  /// Between two places of device memory, or between one and `Device::pinned_memory`. Precondition: they do not overlap.
  virtual void copy(std::byte* to, const std::byte* from, std::int64_t bytes) = 0;
  virtual void clear(std::byte* to, std::int64_t bytes) = 0;
  /// From now on what is run is recorded and not done, until the recording ends or is dropped. Copies and merges are
  /// not allowed in one.
  virtual void begin_recording() = 0;
  [[nodiscard]] virtual std::unique_ptr<DeviceRecording> end_recording() = 0;
  virtual void drop_recording() noexcept = 0;
  virtual void replay(const DeviceRecording& recording) = 0;
  /// What is given to this lane from now on comes after all that `other`, a lane of the same device, has now. No thread
  /// waits.
  virtual void come_after(DeviceLane& other) = 0;
  /// Returns when all is done.
  virtual void wait() = 0;
  [[nodiscard]] virtual DeviceCounts counts() const noexcept = 0;
};

/// What is asked of a device when it is opened.
struct DeviceOptions {
  /// Whether products of floats may round what they multiply to tf32, of 11 significant bits: many times as fast on a GPU.
  bool allows_tf32 = false;
};

class Device {
 public:
  virtual ~Device() = default;

  /// As messages and the ledger call it: "CUDA device 0 (NVIDIA H200)".
  [[nodiscard]] virtual std::string_view name() const noexcept = 0;
  /// Device memory, in blocks on a boundary of `device_alignment`.
  [[nodiscard]] virtual MemorySource memory() noexcept = 0;
  /// Host memory that the device copies from and to at full speed.
  [[nodiscard]] virtual MemorySource pinned_memory() noexcept = 0;
  /// Of the op with this name (Step::op); `run` is null for one that it has not.
  [[nodiscard]] virtual DeviceFunctions functions(std::string_view op) const noexcept = 0;
  /// That a merge of so many terms takes beside its weight.
  [[nodiscard]] virtual std::int64_t merge_room_bytes(std::int64_t terms) const noexcept = 0;
  /// Bytes that it could still give, by its driver's account, which counts every program on it; 0 where nobody knows.
  [[nodiscard]] virtual std::int64_t free_bytes() const { return 0; }
  /// Its staging memory is charged to `ledger`, the host's. Throws as Buffer does, and `error{device_failed}`.
  [[nodiscard]] virtual std::unique_ptr<DeviceLane> make_lane(Ledger& ledger) = 0;
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// A step's function on the device, with copies of all that a context views on the host, in scratch of exactly the size
// that it asks for.
#pragma once

#include <support/device_memory.hpp>

#include <tenon/graph/step.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace tenon::test {

/// Copies of what terms view, for as long as this lives.
class DeviceViews {
 public:
  template <class T>
  [[nodiscard]] const T* of(const T* host, std::int64_t count) {
    if (host == nullptr) return nullptr;
    const std::span<const std::byte> bytes = std::as_bytes(std::span(host, static_cast<std::size_t>(count)));
    return reinterpret_cast<const T*>(place(bytes, 0));
  }
  /// Padding between rows is copied too.
  [[nodiscard]] kernels::WeightMatrix of(kernels::WeightMatrix host, std::int64_t shift = 0) {
    const std::int64_t elements = (host.rows - 1) * host.stride + host.cols;
    host.data = place({host.data, static_cast<std::size_t>(elements * dtype_bytes(host.dtype))}, shift);
    return host;
  }
  [[nodiscard]] TensorView of(TensorView host) {
    if (host.data == nullptr) return host;
    REQUIRE(host.is_contiguous());
    host.data = of(host.data, host.bytes());
    return host;
  }
  [[nodiscard]] WireView of(WireView host) {
    host.data = place({host.data, static_cast<std::size_t>(host.bytes())}, 0);
    return host;
  }
  /// `shift` has the place behind a boundary that each matrix begins at.
  [[nodiscard]] kernels::LowRankTerm of(kernels::LowRankTerm host, std::int64_t a_shift = 0,
                                        std::int64_t b_shift = 0) {
    host.a = of(host.a, a_shift);
    host.b = of(host.b, b_shift);
    host.row_gain = of(host.row_gain, host.b.rows);
    host.rank_gain = of(host.rank_gain, host.a.rows);
    host.scale_at = of(host.scale_at, 1);
    return host;
  }
  [[nodiscard]] kernels::BiasTerm of(kernels::BiasTerm host) {
    host.values.data = of(host.values.data, host.values.size * dtype_bytes(host.values.dtype));
    return host;
  }

 private:
  std::byte* place(std::span<const std::byte> bytes, std::int64_t shift) {
    return copies_.emplace_back(bytes, shift).data();
  }
  std::deque<DeviceBytes> copies_{};
};

/// A slot's lists as a device takes them: nodes on the host, what they view on the device.
class DeviceSlot {
 public:
  DeviceSlot(const ActiveSlot& host, DeviceViews& views) : slot_(host) {
    REQUIRE(host.deltas.empty()); // other kinds than LoRA come to a device merged
    slot_.weight = views.of(host.weight);
    slot_.base = views.of(host.base);
    slot_.terms = {};
    slot_.biases = {};
    for (const SideTerm* side = host.terms.first; side != nullptr; side = side->next)
      slot_.terms.add(terms_.emplace_back(SideTerm{.term = views.of(side->term)}));
    for (const SideBias* side = host.biases.first; side != nullptr; side = side->next)
      slot_.biases.add(biases_.emplace_back(SideBias{.term = views.of(side->term)}));
  }
  [[nodiscard]] const ActiveSlot& slot() const noexcept { return slot_; }

 private:
  ActiveSlot slot_;
  std::deque<SideTerm> terms_{};
  std::deque<SideBias> biases_{};
};

/// Runs `op`; what the output and the state hold on the host goes to the device before, and comes back with what the step
/// wrote. An input that lies where the output does is written over. Recorded and replayed over the same memory the step must write
/// the same again. Returns its fault.
[[nodiscard]] inline std::int32_t run_on_device(std::string_view op, const StepContext& host) {
  const DeviceFunctions functions = test_device().functions(op);
  REQUIRE((functions.run != nullptr));
  DeviceViews views;
  std::optional<DeviceSlot> slot;
  StepContext call = host;
  call.workers = {};
  if (host.slot != nullptr) call.slot = &slot.emplace(*host.slot, views).slot();
  const std::span<const std::byte> before(host.output.data, static_cast<std::size_t>(host.output.bytes()));
  DeviceBytes output(before);
  call.output.data = output.data();
  std::vector<WireView> inputs(host.inputs.begin(), host.inputs.end());
  for (WireView& input : inputs) input = input.data == host.output.data ? call.output : views.of(input);
  call.inputs = inputs;
  std::vector<TensorView> weights(host.weights.begin(), host.weights.end());
  for (TensorView& weight : weights) weight = views.of(weight);
  call.weights = weights;
  const StateView& kept = host.state;
  const std::span<const std::byte> kept_before(
      reinterpret_cast<const std::byte*>(kept.data),
      static_cast<std::size_t>(kept.sequences * kept.capacity * kept.width * 4));
  DeviceBytes state(kept_before);
  if (kept.data != nullptr) call.state.data = reinterpret_cast<float*>(state.data());
  DeviceBytes room(functions.scratch == nullptr ? 0 : functions.scratch(call));
  DeviceBytes fault(sizeof(std::int32_t));

  DeviceLane& lane = test_lane();
  const auto run = [&] {
    lane.run(functions.run, call, room.span(), reinterpret_cast<std::int32_t*>(fault.data()));
  };
  lane.clear(fault.data(), fault.size());
  const DeviceCounts counts = lane.counts();
  run();
  CHECK(lane.counts().waits == counts.waits);
  CHECK(lane.counts().steps == counts.steps + 1);
  CHECK(room.guard_untouched());
  CHECK(output.guard_untouched());
  CHECK(state.guard_untouched());
  const std::vector<std::byte> written = output.on_host();
  const std::vector<std::byte> kept_after = state.on_host();
  std::int32_t found = 0;
  std::memcpy(&found, fault.on_host().data(), sizeof found);

  lane.upload(output.data(), before);
  lane.upload(state.data(), kept_before);
  lane.begin_recording();
  try {
    run();
  } catch (...) {
    lane.drop_recording();
    throw;
  }
  const std::unique_ptr<DeviceRecording> recording = lane.end_recording();
  lane.replay(*recording);
  CHECK(output.on_host() == written);
  CHECK(state.on_host() == kept_after);
  if (!kept_after.empty()) std::memcpy(kept.data, kept_after.data(), kept_after.size());
  if (!written.empty()) std::memcpy(host.output.data, written.data(), written.size());
  return found;
}

} // namespace tenon::test

// SPDX-License-Identifier: Apache-2.0
// A session below its type: the model it views, what is attached, its buffers, and the loop that runs a
// Program. A forward pass allocates nothing within the reserved dimensions. Not for two threads at once; two
// sessions over one model are.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/session/model.hpp>
#include <tenon/session/overlay_pool.hpp>
#include <tenon/session/pass_recorder.hpp>
#include <tenon/session/slot_table.hpp>
#include <tenon/session/state_table.hpp>
#include <tenon/session/workspace.hpp>

#include <memory>
#include <utility>

#if TENON_HAS_BODIES
#include <tenon/core/fatal.hpp>
#include <tenon/session/device_side.hpp>
#include <tenon/session/residency.hpp>
#endif

namespace tenon {

class DeviceSide; // session/device_side.hpp
struct LossRoom;  // session/overlay_pass.hpp

class SessionState {
 public:
  TENON_INLINE SessionState(const Program& program, std::shared_ptr<const ModelData> model, const Dims& dims);
  TENON_INLINE ~SessionState();
  SessionState(const SessionState&) = delete;
  SessionState& operator=(const SessionState&) = delete;

  [[nodiscard]] const Program& program() const noexcept { return program_; }
  [[nodiscard]] const ModelData& model() const noexcept { return *model_; }
  [[nodiscard]] Ledger& ledger() const noexcept { return *model_->ledger; }
  [[nodiscard]] SlotTable& slots() noexcept { return slots_; }
  [[nodiscard]] const SlotTable& slots() const noexcept { return slots_; }
  [[nodiscard]] OverlayPool& overlays() noexcept { return overlays_; }
  [[nodiscard]] const OverlayPool& overlays() const noexcept { return overlays_; }
  [[nodiscard]] Workspace& workspace() noexcept { return workspace_; }
  [[nodiscard]] const Workspace& workspace() const noexcept { return workspace_; }

  /// Counts every attach and release; what was computed under another value may be stale.
  [[nodiscard]] std::uint64_t adapter_generation() const noexcept { return generation_; }
  [[nodiscard]] std::int64_t guards() const noexcept { return guards_; }
  /// Writes an overlay's bytes; see `write_overlay`, and for a device session/device_merge.hpp.
  template <class AfterBand>
  void write(OverlayNode& node, const OverlayNode* below, const OverlayNode* skipped, LossRoom loss,
             AfterBand after_band);
  /// Makes the topmost overlays again that lost a term below them. One that a device could not make stays stale, and is
  /// tried again before the next pass.
  TENON_INLINE void refresh() noexcept;
  /// Makes room for forward passes of these dimensions. Strong guarantee; throws as `Workspace::reserve`.
  TENON_INLINE void reserve(const Dims& dims);
  /// Null on the host.
  [[nodiscard]] TENON_INLINE DeviceLane* lane() noexcept;
  [[nodiscard]] TENON_INLINE DeviceCounts lane_counts() const;
  [[nodiscard]] bool is_on_device() const noexcept { return device_ != nullptr; }
  /// Another library's products, or null for Tenon's own.
  void use_products(const kernels::ProductBackend* products) noexcept { products_ = products; }
  /// Whether the mapped pages of a weight are let go once an overlay stands in for it.
  void drop_covered_pages(bool drops) noexcept { drops_covered_pages_ = drops; }

  /// One more guard merges into the model's own weights. Throws `error{bad_argument}` if it has none, and
  /// `error{wrong_state}` if other sessions use it.
  TENON_INLINE void in_place_guard_begins();
  [[nodiscard]] bool can_merge_in_place() const noexcept {
    return model_->owns_weights() && (in_place_guards_ > 0 || model_->use.has_one_session());
  }
  TENON_INLINE void in_place_guard_ends() noexcept;
  /// Before weights are restored: their source must be what they were copied from. If it is not, the model's
  /// weights are lost, and every later forward pass says so.
  TENON_INLINE void check_sources() noexcept;

  void guard_begins() noexcept {
    ++guards_;
    guard_switches();
  }
  void guard_switches() noexcept {
    ++generation_;
    ++attached_;
  }
  /// Only scales of side terms changed.
  void guard_rescales() noexcept { ++generation_; }
  void guard_ends() noexcept {
    --guards_;
    guard_switches();
  }
  /// Whether passes on a device are recorded and replayed.
  void record_passes(bool records) { recorder_.enable(records); }

  /// Computes the net on `inputs`. The outputs are then in the workspace, until the next run or reserve.
  /// Throws `shape_error` for inputs the net does not take.
  TENON_INLINE void run(std::span<const TensorView> inputs);
  /// The same after the tokens that `states` holds, to which those of this call are added. Throws as
  /// `StateTable::begin` too; `states` has what it had then.
  TENON_INLINE void run(std::span<const TensorView> inputs, StateTable& states);

  /// Output `i` of the last run, on the host.
  [[nodiscard]] TENON_INLINE TensorView output(std::size_t i) noexcept;

 private:
  [[nodiscard]] static std::size_t index(std::int32_t i) noexcept { return static_cast<std::size_t>(i); }

  /// A WeightRestorer's: over the lane. If that fails, the model's weights are lost.
  TENON_INLINE static void restore_on_device(void* state, std::byte* weight,
                                             const TensorView& source) noexcept;

  TENON_INLINE void compute(std::span<const TensorView> inputs, const Dims& dims);

  static void swap_carried(const Loop& loop, std::span<WireView> wires) noexcept {
    for (std::size_t i = 0; i < max_loop_carries && loop.carries[i] != no_index; ++i)
      std::swap(wires[index(loop.carries[i])].data, wires[index(loop.results[i])].data);
  }

  /// Loops are walked in place: after each round the buffers of the carried wire and of the result change
  /// places.
  TENON_INLINE void run_steps(std::span<WireView> wires);

  /// One from outside the loops around a step has one copy.
  [[nodiscard]] const TensorView& weight_of(const WeightEntry& entry, std::int64_t copy) const noexcept {
    return model_->weights[index(entry.base) + (entry.loop == no_index ? 0 : static_cast<std::size_t>(copy))];
  }

  TENON_INLINE void run_step(const Step& step, std::span<const WireView> wires,
                             std::span<const std::int64_t> copy);

  const Program& program_;
  std::shared_ptr<const ModelData> model_;
  ModelSeat seat_;
  SlotTable slots_;
  OverlayPool overlays_;
  std::unique_ptr<DeviceSide> device_; ///< of a model on a device
  Workspace workspace_;
  const kernels::ProductBackend* products_ = nullptr;
  StateTable* states_ = nullptr; ///< during a call with a KvCache
  bool drops_covered_pages_ = false;
  std::int64_t in_place_guards_ = 0;
  std::uint64_t generation_ = 0;
  std::uint64_t attached_ = 0; ///< the same, but for scales of side terms
  PassRecorder recorder_{};
  std::int64_t guards_ = 0;
};

#if TENON_HAS_BODIES
TENON_INLINE SessionState::SessionState(const Program& program, std::shared_ptr<const ModelData> model,
                                        const Dims& dims)
    : program_(program), model_(std::move(model)), seat_(model_->use),
      slots_(program, model_->weights, model_->sources), overlays_(*model_->memory),
      device_(model_->device == nullptr ? nullptr : std::make_unique<DeviceSide>(program, *model_)),
      workspace_(program, model_->weights, *model_->memory,
                 device_ ? device_->functions() : std::span<const DeviceFunctions>{}) {
  if (device_) {
    slots_.restore_by({&restore_on_device, this});
    model_->residency->join(device_->lane());
  }
  model_->check_unchanged();
  reserve(dims);
}

TENON_INLINE SessionState::~SessionState() {
  if (guards_ != 0)
    fatal("a Session ended while an adapter was attached to it; declare the guard after its session");
}

TENON_INLINE void SessionState::reserve(const Dims& dims) {
  workspace_.reserve(dims);
  if (device_) device_->reserve(dims);
}

TENON_INLINE DeviceLane* SessionState::lane() noexcept { return device_ ? &device_->lane() : nullptr; }
TENON_INLINE DeviceCounts SessionState::lane_counts() const {
  return device_ ? device_->counts() : DeviceCounts{};
}

TENON_INLINE TensorView SessionState::output(std::size_t i) noexcept {
  if (device_) return device_->output(i);
  const WireView& wire = workspace_.wires()[index(program_.outputs[i])];
  return {wire.data, wire.dtype,
          std::span<const std::int64_t>(wire.extents.data(), static_cast<std::size_t>(wire.rank))};
}

#endif

} // namespace tenon

#if TENON_HAS_BODIES
#include <tenon/session/run_steps.hpp>
#include <tenon/session/written_weights.hpp>
#endif

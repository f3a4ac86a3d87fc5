// SPDX-License-Identifier: Apache-2.0
// A session's buffers and threads: the activations, laid out by the plan that the net's type fixes, and the
// kernels' scratch, once for each thread. Within what is reserved a forward pass of any dimensions is planned
// again without allocating. On a device, inputs have a place there too, and there is one scratch.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/graph/plan.hpp>
#include <tenon/kernels/workers.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/session/device.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#if TENON_HAS_BODIES
#include <tenon/kernels/merge_deltas.hpp>
#include <tenon/kernels/weight_norms.hpp>
#include <tenon/session/check_dims.hpp>
#endif

namespace tenon {

class Workspace {
 public:
  /// `functions`: of a device's steps, whose ledger `ledger` then is; empty on the host.
  Workspace(const Program& program, std::span<const TensorView> weights, Ledger& ledger,
            std::span<const DeviceFunctions> functions = {})
      : program_(program), weights_(weights), ledger_(ledger), functions_(functions), plan_(program),
        wires_(program.wires.size()), has_deltas_(is_on_device()) {}

  /// Makes room for `dims`; what is reserved never shrinks. Strong guarantee. Throws `budget_error` before
  /// anything is taken, `error{out_of_memory}`, `shape_error` for dimensions that the net cannot compute with.
  TENON_INLINE void reserve(const Dims& dims);

  /// Makes room for steps that read up to `capacity` tokens of earlier calls. Strong guarantee; throws as `reserve`.
  TENON_INLINE void reserve_for_states(std::int64_t capacity);

  /// Bytes of scratch that attaching other kinds than LoRA takes in place of what there is; 0 if that is
  /// enough.
  [[nodiscard]] TENON_INLINE std::int64_t growth_for_deltas() const;
  /// Scratch for other kinds than LoRA, until it is dropped or kept: nothing after it can fail.
  class Growth {
   public:
    /// Throws as Buffer does; nothing has changed then.
    Growth(Workspace& workspace, bool is_needed) : workspace_(workspace) {
      if (!is_needed || workspace.has_deltas_) return;
      if (const std::int64_t bytes = workspace.growth_for_deltas(); bytes > 0) {
        before_ = Buffer(workspace.ledger_, Category::scratch, bytes, "scratch for an adapter");
        before_.swap(workspace.scratch_);
        each_before_ = std::exchange(workspace.scratch_each_, bytes / workspace.threads());
      }
      workspace.has_deltas_ = true;
      is_mine_ = true;
    }
    ~Growth() {
      if (!is_mine_) return;
      workspace_.has_deltas_ = false;
      if (before_.bytes() == 0) return;
      before_.swap(workspace_.scratch_);
      workspace_.scratch_each_ = each_before_;
    }
    Growth(const Growth&) = delete;
    Growth& operator=(const Growth&) = delete;
    /// It stays the workspace's.
    void keep() noexcept {
      is_mine_ = false;
      before_ = {};
    }

   private:
    Workspace& workspace_;
    Buffer before_{};
    std::int64_t each_before_ = 0;
    bool is_mine_ = false;
  };

  /// From now on `threads` threads share the work, with a scratch each. Strong guarantee. Throws as
  /// `ThreadTeam` and `reserve` do.
  TENON_INLINE void use_threads(int threads);
  [[nodiscard]] int threads() const noexcept { return team_ == nullptr ? 1 : team_->threads(); }

  /// Lays the wires out for `dims`, growing first if what is reserved is too small.
  TENON_INLINE void plan(const Dims& dims);

  /// The next `plan` gives every wire its own place, also for dimensions that are the last ones'.
  void lay_out_again() noexcept { planned_.reset(); }

  [[nodiscard]] std::span<WireView> wires() noexcept { return wires_; }
  [[nodiscard]] kernels::Workers workers() noexcept {
    const auto each = static_cast<std::size_t>(scratch_each_);
    const std::span<std::byte> all(scratch_.data(), static_cast<std::size_t>(scratch_.bytes()));
    return {kernels::Scratch(all.first(each)), team_.get(), all.subspan(each), scratch_each_};
  }
  /// Of a device.
  [[nodiscard]] std::span<std::byte> scratch() noexcept {
    return {scratch_.data(), static_cast<std::size_t>(scratch_.bytes())};
  }
  [[nodiscard]] const std::byte* activations() const noexcept { return memory_.data(); }
  [[nodiscard]] bool is_on_device() const noexcept { return !functions_.empty(); }
  /// Whether `address` lies in the activations: what a forward pass writes over.
  [[nodiscard]] bool holds(const std::byte* address) const noexcept {
    return address >= memory_.data() && address < memory_.data() + memory_.bytes();
  }
  [[nodiscard]] std::int64_t activation_bytes() const noexcept { return memory_.bytes(); }
  [[nodiscard]] std::int64_t scratch_bytes() const noexcept { return scratch_.bytes(); }

  [[nodiscard]] static WireView extents_of(const Shape& shape, const Dims& dims) noexcept {
    WireView view{.dtype = shape.dtype, .rank = shape.rank};
    for (int i = 0; i < shape.rank; ++i) view.extents[static_cast<std::size_t>(i)] = shape.dims[i].at(dims);
    return view;
  }

 private:
  /// The largest need of any step, or of a merge, for each thread; a whole number of cache lines.
  [[nodiscard]] TENON_INLINE std::int64_t scratch_for(const Dims& dims, bool has_deltas) const;
  /// At `offset`, on a device; returns where the next may lie.
  [[nodiscard]] TENON_INLINE std::int64_t place_input(WireId id, const Dims& dims, std::int64_t offset);

  const Program& program_;
  std::span<const TensorView> weights_;
  Ledger& ledger_;
  std::span<const DeviceFunctions> functions_;
  PlanVectors plan_;
  std::vector<WireView> wires_;
  std::optional<Dims> planned_{};
  Dims reserved_{};           ///< the last that took memory
  std::int64_t capacity_ = 0; ///< tokens of earlier calls that steps may read
  bool has_deltas_; ///< whether there is scratch for all kinds; on a device there is from the beginning
  Buffer memory_{};
  Buffer scratch_{};
  std::int64_t scratch_each_ = 0;      ///< bytes for each thread
  std::unique_ptr<ThreadTeam> team_{}; ///< null: the calling thread alone
};

#if TENON_HAS_BODIES
TENON_INLINE void Workspace::reserve(const Dims& dims) {
  check_dims(program_, dims);
  std::int64_t activations = plan_buffers(program_, dims, plan_.room());
  if (is_on_device())
    for (const WireId id : program_.inputs) activations = place_input(id, dims, activations);
  planned_.reset();
  const std::int64_t scratch = std::max(scratch_for(dims, has_deltas_), scratch_each_);
  BytesByCategory more;
  if (activations > memory_.bytes()) more[Category::workspace] = activations;
  if (scratch > scratch_each_) more[Category::scratch] = scratch * threads();
  if (more.total() == 0) return;
  ledger_.require(more, "reserve a workspace");
  Buffer memory(ledger_, Category::workspace, more[Category::workspace], "reserve a workspace");
  Buffer tiles(ledger_, Category::scratch, more[Category::scratch], "reserve scratch");
  if (more[Category::workspace] > 0) memory_ = std::move(memory);
  if (more[Category::scratch] > 0) scratch_ = std::move(tiles);
  scratch_each_ = scratch;
  reserved_ = dims;
}

TENON_INLINE void Workspace::reserve_for_states(std::int64_t capacity) {
  if (capacity <= capacity_) return;
  const std::int64_t before = std::exchange(capacity_, capacity);
  try {
    reserve(reserved_);
  } catch (...) {
    capacity_ = before;
    throw;
  }
}

TENON_INLINE std::int64_t Workspace::growth_for_deltas() const {
  const std::int64_t each = has_deltas_ ? 0 : scratch_for(reserved_, true);
  return each > scratch_each_ ? each * threads() : 0;
}

TENON_INLINE void Workspace::use_threads(int threads) {
  if (threads == this->threads()) return;
  if (is_on_device())
    throw error(ErrorCode::unsupported, "use_threads: the work of this session is done on a device");
  auto team = threads == 1 ? nullptr : std::make_unique<ThreadTeam>(threads);
  scratch_ = Buffer(ledger_, Category::scratch, scratch_each_ * threads, "scratch for other threads");
  team_ = std::move(team);
}

TENON_INLINE void Workspace::plan(const Dims& dims) {
  if (planned_ == dims) return;
  reserve(dims);
  for (std::size_t i = 0; i < wires_.size(); ++i) {
    const Wire& wire = program_.wires[i];
    wires_[i] = extents_of(wire.shape, dims);
    if (wire.kind != WireKind::input || is_on_device()) wires_[i].data = memory_.data() + plan_.offsets[i];
  }
  planned_ = dims;
}

TENON_INLINE std::int64_t Workspace::scratch_for(const Dims& dims, bool has_deltas) const {
  std::int64_t most = is_on_device() ? 0 : kernels::merge_scratch_bytes;
  for (const SlotEntry& slot : program_.slots)
    if (has_deltas && !is_on_device())
      most = std::max({most, kernels::merge_deltas_scratch_bytes(slot.out, slot.in),
                       kernels::weight_norms_scratch_bytes(slot.out, slot.in)});
  for (std::size_t i = 0; i < program_.steps.size(); ++i) {
    const Step& step = program_.steps[i];
    const ScratchFunction bytes_of = is_on_device() ? functions_[i].scratch : step.scratch;
    if (bytes_of == nullptr) continue;
    std::array<WireView, max_step_inputs> inputs;
    std::size_t count = 0;
    for (; count < inputs.size() && step.inputs[count] != no_index; ++count)
      inputs[count] = extents_of(program_.wires[static_cast<std::size_t>(step.inputs[count])].shape, dims);
    StepContext context{.inputs = {inputs.data(), count},
                        .capacity = capacity_,
                        .params = step.params,
                        .has_deltas = has_deltas};
    context.output = extents_of(program_.wires[static_cast<std::size_t>(step.output)].shape, dims);
    if (step.weights[0] == no_index) {
      most = std::max(most, bytes_of(context));
      continue;
    }
    const WeightEntry& entry = program_.weights[static_cast<std::size_t>(step.weights[0])];
    for (std::int32_t copy = 0; copy < entry.copies; ++copy) {
      context.weights = weights_.subspan(static_cast<std::size_t>(entry.base + copy), 1);
      most = std::max(most, bytes_of(context));
    }
  }
  return is_on_device() ? on_device_boundary(most) : kernels::scratch_bytes<std::byte>(most);
}

TENON_INLINE std::int64_t Workspace::place_input(WireId id, const Dims& dims, std::int64_t offset) {
  offset = on_device_boundary(offset);
  plan_.offsets[static_cast<std::size_t>(id)] = offset;
  return offset + program_.wires[static_cast<std::size_t>(id)].shape.bytes(dims);
}
#endif

} // namespace tenon

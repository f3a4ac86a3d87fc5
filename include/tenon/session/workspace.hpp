// SPDX-License-Identifier: Apache-2.0
// A session's buffers: the activations, laid out by the plan that the net's type fixes, and the kernels'
// scratch. Within what is reserved a forward pass of any dimensions is planned again without allocating.
#pragma once

#include <tenon/graph/plan.hpp>
#include <tenon/kernels/merge.hpp>
#include <tenon/memory/buffer.hpp>

#include <algorithm>
#include <optional>
#include <vector>

namespace tenon {

class Workspace {
 public:
  Workspace(const Program& program, std::span<const TensorView> weights, Ledger& ledger)
      : program_(program), weights_(weights), ledger_(ledger), offsets_(program.wires.size()),
        alive_(program.by_first.size()), wires_(program.wires.size()) {}

  /// Makes room for `dims`; what is reserved never shrinks. Strong guarantee. Throws `budget_error` before
  /// anything is taken, `error{out_of_memory}`.
  void reserve(const Dims& dims) {
    const std::int64_t activations = plan_buffers(program_, dims, offsets_, alive_);
    planned_.reset();
    const std::int64_t scratch = scratch_for(dims);
    BytesByCategory more;
    if (activations > memory_.bytes()) more[Category::workspace] = activations;
    if (scratch > scratch_.bytes()) more[Category::scratch] = scratch;
    if (more.total() == 0) return;
    ledger_.require(more, "reserve a workspace");
    Buffer memory(ledger_, Category::workspace, more[Category::workspace], "reserve a workspace");
    Buffer tiles(ledger_, Category::scratch, more[Category::scratch], "reserve scratch");
    if (more[Category::workspace] > 0) memory_ = std::move(memory);
    if (more[Category::scratch] > 0) scratch_ = std::move(tiles);
  }

  /// Lays the wires out for `dims`, growing first if what is reserved is too small.
  void plan(const Dims& dims) {
    if (planned_ == dims) return;
    reserve(dims);
    for (std::size_t i = 0; i < wires_.size(); ++i) {
      const Wire& wire = program_.wires[i];
      wires_[i] = extents_of(wire.shape, dims);
      if (wire.kind != WireKind::input) wires_[i].data = memory_.data() + offsets_[i];
    }
    planned_ = dims;
  }

  [[nodiscard]] std::span<WireView> wires() noexcept { return wires_; }
  [[nodiscard]] kernels::Scratch scratch() noexcept {
    return kernels::Scratch({scratch_.data(), static_cast<std::size_t>(scratch_.bytes())});
  }
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
  /// The largest need of any step, or of a merge.
  [[nodiscard]] std::int64_t scratch_for(const Dims& dims) const {
    std::int64_t most = kernels::merge_scratch_bytes;
    for (const Step& step : program_.steps) {
      if (step.scratch == nullptr) continue;
      const WireView input = extents_of(program_.wires[static_cast<std::size_t>(step.inputs[0])].shape, dims);
      StepContext context{.inputs = {&input, 1}, .params = step.params};
      context.output = extents_of(program_.wires[static_cast<std::size_t>(step.output)].shape, dims);
      if (step.weights[0] == no_index) {
        most = std::max(most, step.scratch(context));
        continue;
      }
      const WeightEntry& entry = program_.weights[static_cast<std::size_t>(step.weights[0])];
      for (std::int32_t copy = 0; copy < entry.copies; ++copy) {
        context.weights = weights_.subspan(static_cast<std::size_t>(entry.base + copy), 1);
        most = std::max(most, step.scratch(context));
      }
    }
    return most;
  }

  const Program& program_;
  std::span<const TensorView> weights_;
  Ledger& ledger_;
  std::vector<std::int64_t> offsets_;
  std::vector<WireId> alive_;
  std::vector<WireView> wires_;
  std::optional<Dims> planned_{};
  Buffer memory_{};
  Buffer scratch_{};
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// What a session has on its model's device: a lane, the functions of its program's steps, and the way of inputs and
// outputs between the host and the workspace there. A pass waits for the device once, at its end, when the outputs
// have come back.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/graph/program.hpp>
#include <tenon/session/device.hpp>
#include <tenon/session/model.hpp>
#include <tenon/session/workspace.hpp>

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace tenon {

/// Of each step of `program` on `device`. Throws `error{unsupported}` for a step that has none there.
[[nodiscard]] inline std::vector<DeviceFunctions> functions_on(const Device& target, const Program& program) {
  std::vector<DeviceFunctions> functions(program.steps.size());
  for (std::size_t i = 0; i < functions.size(); ++i) {
    const Step& step = program.steps[i];
    if (step.kind != StepKind::compute) continue;
    functions[i] = target.functions(step.op);
    if (functions[i].run == nullptr)
      throw error(ErrorCode::unsupported,
                  concat("Session: ", target.name(), " has no function for the op ", step.op,
                         "; open the model on the host"),
                  {.layer = std::string(program.text_of(step.path))});
  }
  return functions;
}

class DeviceSide {
 public:
  /// Throws as Buffer and `functions_on` do, and `error{device_failed}`.
  DeviceSide(const Program& program, const ModelData& model)
      : program_(program), host_ledger_(*model.ledger), pinned_(model.device->pinned_memory()),
        functions_(functions_on(*model.device, program)), lane_(model.device->make_lane(host_ledger_)),
        fault_(*model.memory, Category::workspace, device_alignment, "reserve a workspace") {
    lane_->clear(fault_.data(), fault_.bytes());
  }

  [[nodiscard]] DeviceLane& lane() noexcept { return *lane_; }
  [[nodiscard]] DeviceCounts counts() const noexcept { return lane_->counts(); }
  [[nodiscard]] std::span<const DeviceFunctions> functions() const noexcept { return functions_; }

  /// Room on the host for the outputs of a pass, and for what a step could not take.
  void reserve(const Dims& dims) {
    std::int64_t bytes = device_alignment;
    for (const WireId id : program_.outputs) bytes += on_device_boundary(shape_of(id).bytes(dims));
    if (bytes > outputs_.bytes())
      outputs_ = Buffer(host_ledger_, Category::workspace, bytes, "reserve a workspace", pinned_);
  }

  /// Copies the inputs to where the workspace has their wires.
  void take_inputs(std::span<const TensorView> inputs, std::span<const WireView> wires) {
    if (is_fault_stale_) lane_->clear(fault_.data(), fault_.bytes());
    is_fault_stale_ = false;
    for (std::size_t i = 0; i < inputs.size(); ++i)
      lane_->upload(wires[index(program_.inputs[i])].data,
                    {inputs[i].data, static_cast<std::size_t>(inputs[i].bytes())});
  }

  void run(std::size_t step, StepContext context, Workspace& workspace) {
    lane_->run(functions_[step].run, context, workspace.scratch(),
               reinterpret_cast<std::int32_t*>(fault_.data()));
  }

  /// Brings the outputs back, which takes all that was to do before. Throws `error{bad_argument}` for a value that a step
  /// could not take.
  void give_outputs(std::span<const WireView> wires) {
    std::byte* to = outputs_.data();
    lane_->download(to, fault_.data(), sizeof(std::int32_t));
    views_.resize(program_.outputs.size()); // once: the program's number
    for (std::size_t i = 0; i < program_.outputs.size(); ++i) {
      const WireView& wire = wires[index(program_.outputs[i])];
      to += i == 0 ? device_alignment : on_device_boundary(views_[i - 1].bytes());
      lane_->download(to, wire.data, wire.bytes());
      views_[i] = {to, wire.dtype, std::span(wire.extents.data(), static_cast<std::size_t>(wire.rank))};
    }
    lane_->wait();
    std::int32_t fault = 0;
    std::memcpy(&fault, outputs_.data(), sizeof fault);
    if (fault == 0) return;
    const Step& step = program_.steps[static_cast<std::size_t>(fault - 1)];
    throw error(ErrorCode::bad_argument,
                concat(step.op, " ", program_.text_of(step.path),
                       ": an input has a value that it cannot take (an id outside its table)"),
                {.layer = std::string(program_.text_of(step.path))});
  }

  /// After a pass that failed: nothing of it writes later, and what its steps could not take is not the next one's to say.
  void abandon_pass() noexcept {
    is_fault_stale_ = true;
    try {
      lane_->wait();
    } catch (...) { // the device failed, which is what the caller throws
    }
  }

  /// Of the last pass, on the host.
  [[nodiscard]] const TensorView& output(std::size_t i) const noexcept { return views_[i]; }

 private:
  [[nodiscard]] static std::size_t index(std::int32_t i) noexcept { return static_cast<std::size_t>(i); }
  [[nodiscard]] const Shape& shape_of(WireId id) const noexcept { return program_.wires[index(id)].shape; }

  const Program& program_;
  Ledger& host_ledger_;
  MemorySource pinned_;
  std::vector<DeviceFunctions> functions_;
  std::unique_ptr<DeviceLane> lane_;
  Buffer fault_; ///< [1] I32 on the device
  bool is_fault_stale_ = false;
  Buffer outputs_{}; ///< on the host
  std::vector<TensorView> views_{};
};

} // namespace tenon

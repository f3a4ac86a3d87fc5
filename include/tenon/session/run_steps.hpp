// SPDX-License-Identifier: Apache-2.0
// The loop that runs a Program: a session's forward pass, below its type.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/session/device_side.hpp>
#include <tenon/session/input_dims.hpp>
#include <tenon/session/session_state.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon {

TENON_INLINE void SessionState::run(std::span<const TensorView> inputs) {
  compute(inputs, dims_of_inputs(program_, inputs, workspace_));
}

TENON_INLINE void SessionState::run(std::span<const TensorView> inputs, StateTable& states) {
  const Dims dims = dims_of_inputs(program_, inputs, workspace_);
  states.begin(dims, this, generation_);
  workspace_.reserve_for_states(states.capacity());
  states_ = &states;
  try {
    compute(inputs, dims);
  } catch (...) {
    states_ = nullptr;
    throw;
  }
  states_ = nullptr;
  states.end(dims.tokens);
}

TENON_INLINE void SessionState::compute(std::span<const TensorView> inputs, const Dims& dims) {
  workspace_.plan(dims);
  const std::span<WireView> wires = workspace_.wires();
  model_->use.check_weights();
  refresh();
  if (device_) {
    model_->use.check_weights(); // a device may have failed in that
    if (slots_.any_stale())
      throw error(
          ErrorCode::device_failed,
          "run: a guard ended below another's, whose overlay could not be made again on the device; make "
          "room there, or end that guard too");
    device_->reserve(dims);
    device_->take_inputs(inputs, wires);
  } else {
    for (std::size_t i = 0; i < inputs.size(); ++i)
      wires[index(program_.inputs[i])].data =
          const_cast<std::byte*>(inputs[i].data); // steps read inputs, never write
  }
  try {
    if (device_ && states_ == nullptr) {
      const PassKey key{dims, attached_, workspace_.activations(), workspace_.scratch().data()};
      recorder_.run(device_->lane(), key, [&] { run_steps(wires); });
    } else {
      run_steps(wires); // with a cache each pass has other arguments: how many tokens came before
    }
    if (device_) device_->give_outputs(wires);
  } catch (...) {
    workspace_.lay_out_again(); // a loop may have left its buffers in each other's places
    if (device_) device_->abandon_pass();
    throw;
  }
}

TENON_INLINE void SessionState::run_steps(std::span<WireView> wires) {
  std::array<std::int64_t, max_loop_depth> round{};
  std::array<std::int64_t, max_loop_depth + 1>
      copy{}; // copy[depth + 1]: the number of the copy that runs now
  for (std::size_t at = 0; at < program_.steps.size(); ++at) {
    const Step& step = program_.steps[at];
    if (step.kind == StepKind::compute) {
      run_step(step, wires, copy);
      continue;
    }
    const Loop& loop = program_.loops[index(step.loop)];
    std::int64_t& turn = round[index(loop.depth)];
    if (step.kind == StepKind::loop_begin) {
      turn = 0;
    } else if (++turn < loop.count) {
      swap_carried(loop, wires);
      at = index(loop.begin);
    } else if (loop.count % 2 == 0) {
      swap_carried(loop, wires);
      continue;
    }
    copy[index(loop.depth) + 1] = copy[index(loop.depth)] * loop.count + turn;
  }
}

TENON_INLINE void SessionState::run_step(const Step& step, std::span<const WireView> wires,
                                         std::span<const std::int64_t> copy) {
  const std::int64_t here =
      step.loop == no_index ? 0 : copy[index(program_.loops[index(step.loop)].depth) + 1];
  std::array<WireView, max_step_inputs> inputs;
  std::array<WireView, max_step_temporaries> temporaries;
  std::array<TensorView, max_step_weights> weights;
  std::size_t input_count = 0;
  std::size_t temporary_count = 0;
  for (; input_count < inputs.size() && step.inputs[input_count] != no_index; ++input_count)
    inputs[input_count] = wires[index(step.inputs[input_count])];
  for (; temporary_count < temporaries.size() && step.temporaries[temporary_count] != no_index;
       ++temporary_count)
    temporaries[temporary_count] = wires[index(step.temporaries[temporary_count])];
  for (std::size_t i = 0; i < weights.size(); ++i)
    if (step.weights[i] != no_index) weights[i] = weight_of(program_.weights[index(step.weights[i])], here);
  const StepContext context{
      .inputs = {inputs.data(), input_count},
      .output = wires[index(step.output)],
      .temporaries = {temporaries.data(), temporary_count},
      .weights = weights,
      .slot = step.slot == no_index
                  ? nullptr
                  : &slots_.active(program_.slots[index(step.slot)].base + static_cast<std::int32_t>(here)),
      .state = step.state == no_index || states_ == nullptr
                   ? StateView{}
                   : states_->view(program_.states[index(step.state)], here),
      .past = states_ == nullptr ? 0 : states_->tokens(),
      .params = step.params,
      .products = products_,
      .workers = device_ ? kernels::Workers{} : workspace_.workers(),
      .number = static_cast<std::int32_t>(&step - program_.steps.data())};
  if (device_)
    device_->run(index(context.number), context, workspace_);
  else
    step.run(context);
}

} // namespace tenon

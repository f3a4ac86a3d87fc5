// SPDX-License-Identifier: Apache-2.0
// A step's call that can be made again: its context with all that the context views on the host. So a pass is recorded
// where there is no graph of CUDA's: what was attached then is attached in it, and what lies in the device's memory (the
// activations, the scales of side terms) is read anew.
#pragma once

#include <tenon/graph/step.hpp>

#include <array>
#include <deque>
#include <span>

namespace tenon::gpu {

/// Immovable: its context views its members.
class FrozenStep {
 public:
  FrozenStep(StepFunction function, const StepContext& context, std::span<std::byte> scratch,
             std::int32_t* fault)
      : function_(function), context_(context), scratch_(scratch), fault_(fault) {
    context_.inputs = keep(context.inputs, inputs_);
    context_.temporaries = keep(context.temporaries, temporaries_);
    context_.weights = keep(context.weights, weights_);
    if (context.slot == nullptr) return;
    slot_ = *context.slot;
    slot_.terms = keep(context.slot->terms, terms_);
    slot_.deltas = keep(context.slot->deltas, deltas_);
    slot_.biases = keep(context.slot->biases, biases_);
    context_.slot = &slot_;
  }
  FrozenStep(const FrozenStep&) = delete;
  FrozenStep& operator=(const FrozenStep&) = delete;

  /// `run(function, context, scratch, fault)`, as DeviceLane::run takes them.
  template <class Run>
  void call(Run run) const {
    run(function_, context_, scratch_, fault_);
  }

 private:
  template <class T, std::size_t N>
  static std::span<const T> keep(std::span<const T> from, std::array<T, N>& to) {
    for (std::size_t i = 0; i < from.size(); ++i) to[i] = from[i];
    return {to.data(), from.size()};
  }
  template <class Term>
  static AttachedList<Term> keep(const AttachedList<Term>& from, std::deque<Attached<Term>>& to) {
    AttachedList<Term> list;
    for (const Attached<Term>* node = from.first; node != nullptr; node = node->next)
      list.add(to.emplace_back(Attached<Term>{node->term}));
    return list;
  }

  StepFunction function_;
  StepContext context_;
  std::span<std::byte> scratch_;
  std::int32_t* fault_;
  std::array<WireView, max_step_inputs> inputs_{};
  std::array<WireView, max_step_temporaries> temporaries_{};
  std::array<TensorView, max_step_weights> weights_{};
  ActiveSlot slot_{};
  std::deque<SideTerm> terms_{};
  std::deque<SideDelta> deltas_{};
  std::deque<SideBias> biases_{};
};

} // namespace tenon::gpu

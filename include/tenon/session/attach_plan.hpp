// SPDX-License-Identifier: Apache-2.0
// What an attach will do, known before it begins: the adapters with their scales, the slots they change, the
// bytes by category that the guard will hold, and the operations and memory traffic that it costs. Making a
// plan changes nothing; a Guard carries one out.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/core/sort_by.hpp>
#include <tenon/session/attach_mode.hpp>
#include <tenon/session/session_state.hpp>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tenon {

/// Counted from shapes. What a merge reads beside this is the factors, once for each few thousand rows of a
/// weight.
struct AttachCost {
  std::int64_t flops = 0;          ///< of the attach itself
  std::int64_t bytes_read = 0;     ///< of weights and factors, each counted once
  std::int64_t bytes_written = 0;  ///< of weights
  std::int64_t flops_per_row = 0;  ///< added to a forward pass, for each row that goes through
  std::int64_t bytes_measured = 0; ///< of weights that are read first: for DoRA's norms, GLoRA's W C

  void add_merge_of(const kernels::WeightMatrix& a, const kernels::WeightMatrix& b) noexcept {
    flops += kernels::merge_flops(a, b);
    bytes_read += a.bytes() + b.bytes();
  }
  /// Of other kinds: `flops_of_row` for a row of x, and the factors' bytes.
  void add_delta(const SlotDelta& delta, const TensorView& base, bool is_side_path) noexcept {
    const std::int64_t rows = base.extent(0);
    const std::int64_t cols = rows == 0 ? 0 : base.size() / rows;
    const std::int64_t dense = 2 * rows * cols;
    const auto of = [](const kernels::Factored& f) { return f.left.bytes() + f.right.bytes(); };
    bytes_read += of(delta.term.first) + of(delta.term.second) + of(delta.term.of_weight);
    const std::int64_t rank = delta.term.first.is_product() ? delta.term.first.right.rows : 1;
    if (is_side_path)
      flops_per_row += delta.term.form == kernels::DeltaForm::hadamard ||
                               delta.term.form == kernels::DeltaForm::of_elements
                           ? dense
                           : 2 * rank * (rows + cols) + rows;
    else
      flops += dense * rank;
    if (delta.gains == GainSource::magnitude) {
      flops += dense * (rank + 1);
      bytes_measured += base.bytes();
      bytes_read += base.bytes();
    }
  }
  /// Of `rows` rows of the weight with a vector.
  void add_product(const TensorView& base, std::int64_t rows) noexcept {
    flops += 2 * base.size() / base.extent(0) * rows;
    bytes_measured += bytes_of_rows(base, rows);
    bytes_read += bytes_of_rows(base, rows);
  }
  [[nodiscard]] static std::int64_t bytes_of_rows(const TensorView& base, std::int64_t rows) noexcept {
    return base.bytes() / base.extent(0) * rows;
  }
};

struct AttachPlan {
  SessionState* session = nullptr;
  AttachMode mode = AttachMode::side_path;
  std::string reason{}; ///< why `automatic` took this mode; else empty
  std::vector<std::shared_ptr<const AdapterData>> adapters{};
  std::vector<double> weights{}; ///< of each adapter: attach scale times the handle's own weight
  std::vector<std::shared_ptr<const std::vector<double>>> slot_weights{}; ///< by slot, or null
  bool measures_loss = false; ///< what rounding costs a merge; see MeasureLoss

  std::vector<std::int32_t> slots{}; ///< changed, ascending, each once
  std::int64_t term_count = 0;       ///< (adapter, slot) pairs with LoRA
  std::int64_t gathered_count = 0;   ///< terms that overlays are made of, those of guards below included
  std::int64_t delta_count = 0;      ///< the same for other kinds
  std::int64_t gathered_delta_count = 0;
  std::int64_t bias_count = 0;
  std::int64_t gain_floats = 0;   ///< of DoRA, IA3 and GLoRA's W C, made when it is attached
  std::int64_t loss_blocks = 0;   ///< of the largest weight, if the loss is measured
  BytesByCategory bytes{};        ///< that the guard will hold
  BytesByCategory device_bytes{}; ///< the same of the device's memory, where the model is on one
  AttachCost cost{};
  std::uint64_t generation = 0;      ///< of the session when it was counted
  std::span<OverlayNode> replaced{}; ///< of a guard that switches to this plan, by ascending slot

  [[nodiscard]] bool writes_weights() const noexcept { return mode != AttachMode::side_path; }
  /// Where overlays are.
  [[nodiscard]] BytesByCategory& bytes_at_weights() noexcept {
    return session->is_on_device() ? device_bytes : bytes;
  }
  [[nodiscard]] const BytesByCategory& bytes_at_weights() const noexcept {
    return session->is_on_device() ? device_bytes : bytes;
  }
  /// Whether there is more than LoRA: layers then need other scratch.
  [[nodiscard]] bool has_deltas() const noexcept { return delta_count > 0 || bias_count > 0; }
  /// Of adapter `a` at a slot.
  [[nodiscard]] double weight_at(std::size_t a, std::int32_t slot) const noexcept {
    const std::vector<double>* const own = slot_weights[a].get();
    return own == nullptr ? weights[a] : weights[a] * (*own)[static_cast<std::size_t>(slot)];
  }
  /// The node that `slot` has now and that the plan's own will replace, or nullptr.
  [[nodiscard]] OverlayNode* replaced_at(std::int32_t slot) const noexcept {
    const auto at =
        std::lower_bound(replaced.begin(), replaced.end(), slot,
                         [](const OverlayNode& node, std::int32_t key) { return node.slot < key; });
    return at != replaced.end() && at->slot == slot ? &*at : nullptr;
  }
  /// Terms that the overlay of `slot` will hold beside the plan's own: those of other guards.
  template <class F>
  void visit_terms_below(std::int32_t slot, F f) const {
    const OverlayNode* const own = replaced_at(slot);
    for (const OverlayNode* node = session->slots().top(slot); node != nullptr; node = node->below)
      if (node != own)
        for (const kernels::LowRankTerm& term : node->terms) f(term);
  }
  [[nodiscard]] std::int64_t deltas_below(std::int32_t slot) const noexcept {
    const OverlayNode* const own = replaced_at(slot);
    std::int64_t count = 0;
    for (const OverlayNode* node = session->slots().top(slot); node != nullptr; node = node->below)
      if (node != own) count += std::ssize(node->deltas);
    return count;
  }
  /// Bytes from one overlay to the next in the guard's block.
  [[nodiscard]] std::int64_t overlay_stride(const TensorView& base) const noexcept {
    if (session->is_on_device()) return on_device_boundary(base.bytes());
    return (base.bytes() + wire_alignment - 1) / wire_alignment * wire_alignment;
  }
};

/// Fills in what follows from session, mode, adapters and weights. Allocates the plan's own lists only.
TENON_INLINE void count_plan(AttachPlan& plan);

#if TENON_HAS_BODIES
/// What a device's merge of this slot takes; one merge runs after the other.
inline void count_merge_room(AttachPlan& plan, std::int32_t slot) {
  std::int64_t terms = 0;
  for (const auto& adapter : plan.adapters)
    terms += std::count_if(adapter->factors.begin(), adapter->factors.end(),
                           [slot](const SlotFactors& factors) { return factors.slot == slot; });
  plan.visit_terms_below(slot, [&terms](const kernels::LowRankTerm&) { ++terms; });
  std::int64_t& room = plan.device_bytes[Category::scratch];
  room = std::max(room, plan.session->model().device->merge_room_bytes(terms));
}

/// What a device holds beside overlays: adapters that are not there yet, and the scales of side terms.
inline void count_on_device(AttachPlan& plan) {
  std::int64_t& bytes = plan.device_bytes[Category::adapter];
  for (auto at = plan.adapters.begin(); at != plan.adapters.end(); ++at)
    if (std::find(plan.adapters.begin(), at, *at) == at &&
        !plan.session->model().residency->is_resident(**at))
      bytes += bytes_of(adapter_pieces(**at));
  if (!plan.writes_weights()) bytes += plan.term_count * static_cast<std::int64_t>(sizeof(float));
}

TENON_INLINE void count_plan(AttachPlan& plan) {
  SessionState& session = *plan.session;
  const bool is_side_path = plan.mode == AttachMode::side_path;
  plan.slots.clear();
  plan.term_count = plan.gathered_count = plan.loss_blocks = 0;
  plan.delta_count = plan.gathered_delta_count = plan.bias_count = plan.gain_floats = 0;
  plan.slot_weights.resize(plan.adapters.size());
  plan.bytes = {};
  plan.device_bytes = {};
  plan.cost = {};
  plan.generation = session.adapter_generation();
  for (const auto& adapter : plan.adapters) {
    plan.term_count += std::ssize(adapter->factors);
    for (const SlotFactors& factors : adapter->factors) {
      plan.slots.push_back(factors.slot);
      if (is_side_path)
        plan.cost.flops_per_row += kernels::side_flops(factors.a, factors.b);
      else
        plan.cost.add_merge_of(factors.a, factors.b);
    }
    plan.delta_count += std::ssize(adapter->deltas);
    plan.bias_count += std::ssize(adapter->biases);
    for (const SlotDelta& delta : adapter->deltas) {
      const TensorView& base = session.slots().source(delta.slot);
      plan.slots.push_back(delta.slot);
      plan.gain_floats += delta.gain_count(base.extent(0), base.extent(1));
      plan.cost.add_delta(delta, base, is_side_path);
    }
    for (const SlotBias& bias : adapter->biases)
      if (bias.of_weight != nullptr) {
        plan.gain_floats += bias.made_count();
        plan.cost.add_product(session.slots().source(bias.slot), bias.rows);
      }
  }
  if (session.is_on_device())
    count_on_device(plan);
  else if (plan.has_deltas())
    plan.bytes[Category::scratch] = session.workspace().growth_for_deltas();
  sort_by(plan.slots, [](std::int32_t a, std::int32_t b) { return a < b; });
  plan.slots.erase(std::unique(plan.slots.begin(), plan.slots.end()), plan.slots.end());

  constexpr auto size_of = []<class T>(std::int64_t count) {
    return count * static_cast<std::int64_t>(sizeof(T));
  };
  plan.bytes[Category::adapter] = size_of.template operator()<SideBias>(plan.bias_count) +
                                  size_of.template operator()<float>(plan.gain_floats);
  if (is_side_path) {
    plan.bytes[Category::adapter] += size_of.template operator()<SideTerm>(plan.term_count) +
                                     size_of.template operator()<SideDelta>(plan.delta_count);
    return;
  }
  plan.gathered_count = plan.term_count;
  plan.gathered_delta_count = plan.delta_count;
  for (const std::int32_t slot : plan.slots) {
    const TensorView& base = session.slots().source(slot);
    plan.visit_terms_below(slot, [&plan](const kernels::LowRankTerm& term) {
      ++plan.gathered_count;
      plan.cost.add_merge_of(term.a, term.b);
    });
    if (session.is_on_device()) count_merge_room(plan, slot);
    plan.gathered_delta_count += plan.deltas_below(slot);
    plan.cost.bytes_read += base.bytes();
    plan.cost.bytes_written += base.bytes();
    if (plan.mode == AttachMode::merged)
      plan.bytes_at_weights()[Category::overlay] += plan.overlay_stride(base);
  }
  if (plan.measures_loss) {
    for (const std::int32_t slot : plan.slots)
      plan.loss_blocks =
          std::max(plan.loss_blocks, LossRoom::blocks_of(session.slots().source(slot).extent(0)));
    plan.bytes[Category::adapter] +=
        size_of.template operator()<kernels::MergeLoss>(std::ssize(plan.slots) + plan.loss_blocks);
  }
  plan.bytes[Category::adapter] +=
      size_of.template operator()<OverlayNode>(std::ssize(plan.slots)) +
      size_of.template operator()<kernels::LowRankTerm>(plan.term_count + plan.gathered_count) +
      size_of.template operator()<kernels::DeltaTerm>(plan.delta_count + plan.gathered_delta_count);
}
#endif

} // namespace tenon

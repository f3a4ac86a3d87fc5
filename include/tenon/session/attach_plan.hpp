// SPDX-License-Identifier: Apache-2.0
// What an attach will do, known before it begins: the adapters with their scales, the slots they change, the
// bytes by category that the guard will hold, and the operations and memory traffic that it costs. Making a
// plan changes nothing; a Guard carries one out.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/session/attach_mode.hpp>
#include <tenon/session/device_share.hpp>
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
  std::int64_t made_floats = 0;   ///< those of biases among them
  std::int64_t loss_blocks = 0;   ///< of the largest weight, if the loss is measured
  BytesByCategory bytes{};        ///< that the guard will hold
  BytesByCategory device_bytes{}; ///< the same of the device's memory, where the model is on one
  /// Of a model on a device: the slots whose overlay the host merges, ascending, and what that takes there.
  std::vector<std::int32_t> host_slots{};
  HostRoom host_room{};
  std::int64_t placed_count = 0; ///< terms that the device merges
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
  /// Whether the host merges the slot's overlay for a device, since something in it is no work of the device's.
  [[nodiscard]] bool is_merged_by_host(std::int32_t slot) const noexcept {
    return std::binary_search(host_slots.begin(), host_slots.end(), slot);
  }
  /// Whether the device computes with tensors of adapter `a`.
  [[nodiscard]] bool device_reads(std::size_t a) const noexcept {
    const AdapterData& adapter = *adapters[a];
    return std::any_of(adapter.factors.begin(), adapter.factors.end(),
                       [this](const SlotFactors& factors) { return !is_merged_by_host(factors.slot); }) ||
           std::any_of(adapter.biases.begin(), adapter.biases.end(),
                       [](const SlotBias& bias) { return is_read_on_device(bias); });
  }
  /// Floats of a bias that are made when it is attached.
  [[nodiscard]] std::int64_t made_count(const SlotBias& bias) const noexcept {
    if (!session->is_on_device() || is_read_on_device(bias)) return bias.made_count();
    return bias.of_weight != nullptr ? bias.made_count() : bias.values.size;
  }
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
  /// Whether the host merges an overlay that the slot's own will lie above.
  [[nodiscard]] bool is_above_host_merge(std::int32_t slot) const noexcept {
    const OverlayNode* const own = replaced_at(slot);
    for (const OverlayNode* node = session->slots().top(slot); node != nullptr; node = node->below)
      if (node != own && node->is_merged_by_host()) return true;
    return false;
  }
  /// Bytes from one overlay to the next in the guard's block.
  [[nodiscard]] std::int64_t overlay_stride(const TensorView& base) const noexcept {
    if (session->is_on_device()) return on_device_boundary(base.bytes());
    return (base.bytes() + wire_alignment - 1) / wire_alignment * wire_alignment;
  }
};

/// Fills in what follows from session, mode, adapters and weights. Allocates the plan's own lists only.
TENON_INLINE void count_plan(AttachPlan& plan);

} // namespace tenon

#if TENON_HAS_BODIES
#include <tenon/session/count_plan.hpp>
#endif

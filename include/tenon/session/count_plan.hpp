// SPDX-License-Identifier: Apache-2.0
// How a plan is counted: slots, terms, bytes of both sides, operations and memory traffic, from what the adapters hold and
// what is attached already. On a device also who merges what.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/sort_by.hpp>
#include <tenon/session/attach_plan.hpp>
#include <tenon/session/device_merge.hpp>
#include <tenon/session/residency.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tenon {

/// Ascending, each once.
inline void sort_slots(std::vector<std::int32_t>& slots) {
  sort_by(slots, [](std::int32_t a, std::int32_t b) { return a < b; });
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
}

/// Finds the slots that the host merges for a device: those with other kinds than LoRA or with factors of 8 bits, those
/// above an overlay that the host merged, and all whose loss is measured.
inline void find_host_slots(AttachPlan& plan) {
  for (const auto& adapter : plan.adapters) {
    for (const SlotDelta& delta : adapter->deltas) plan.host_slots.push_back(delta.slot);
    for (const SlotFactors& factors : adapter->factors)
      if (!is_read_on_device(factors)) plan.host_slots.push_back(factors.slot);
  }
  for (const std::int32_t slot : plan.slots)
    if (plan.measures_loss || plan.is_above_host_merge(slot)) plan.host_slots.push_back(slot);
  sort_slots(plan.host_slots);
}

/// What the host takes for a device: to merge, and to make gains and biases from weights.
inline void count_host_room(AttachPlan& plan) {
  const SlotTable& slots = plan.session->slots();
  for (const std::int32_t slot : plan.host_slots)
    plan.host_room.cover_merge_of(weight_matrix(slots.source(slot)));
  for (const auto& adapter : plan.adapters) {
    for (const SlotDelta& delta : adapter->deltas) {
      const TensorView& base = slots.source(delta.slot);
      if (delta.gains == GainSource::magnitude)
        plan.host_room.cover(kernels::weight_norms_scratch_bytes(base.extent(0), base.extent(1)));
    }
    for (const SlotBias& bias : adapter->biases)
      if (bias.of_weight != nullptr)
        plan.host_room.cover(
            kernels::multiply_scratch_bytes(1, bias.rows, slots.source(bias.slot).extent(1)));
  }
  plan.bytes[Category::scratch] = plan.host_room.total();
}

/// What a device's own merge of this slot takes; one merge runs after the other.
inline void count_merge_room(AttachPlan& plan, std::int32_t slot) {
  std::int64_t own = 0;
  std::int64_t below = 0;
  for (const auto& adapter : plan.adapters)
    own += std::count_if(adapter->factors.begin(), adapter->factors.end(),
                         [slot](const SlotFactors& factors) { return factors.slot == slot; });
  plan.visit_terms_below(slot, [&below](const kernels::LowRankTerm&) { ++below; });
  plan.placed_count += own;
  std::int64_t& room = plan.device_bytes[Category::scratch];
  room = std::max(room, plan.session->model().device->merge_room_bytes(own + below));
}

/// What a device holds beside overlays: what it reads of adapters that are not there yet, biases that the host makes, and
/// the scales of side terms.
inline void count_on_device(AttachPlan& plan) {
  if (plan.writes_weights()) find_host_slots(plan);
  count_host_room(plan);
  std::int64_t& bytes = plan.device_bytes[Category::adapter];
  for (std::size_t a = 0; a < plan.adapters.size(); ++a) {
    const auto& adapter = plan.adapters[a];
    const auto here = plan.adapters.begin() + static_cast<std::ptrdiff_t>(a);
    if (plan.device_reads(a) && std::find(plan.adapters.begin(), here, adapter) == here &&
        !plan.session->model().residency->is_resident(*adapter))
      bytes += bytes_of(adapter_pieces(*adapter));
  }
  const std::int64_t scales = plan.writes_weights() ? 0 : plan.term_count;
  bytes += (plan.made_floats + scales) * static_cast<std::int64_t>(sizeof(float));
}

TENON_INLINE void count_plan(AttachPlan& plan) {
  SessionState& session = *plan.session;
  const bool is_side_path = plan.mode == AttachMode::side_path;
  plan.slots.clear();
  plan.term_count = plan.gathered_count = plan.loss_blocks = 0;
  plan.delta_count = plan.gathered_delta_count = plan.bias_count = 0;
  plan.gain_floats = plan.made_floats = plan.placed_count = 0;
  plan.host_slots.clear();
  plan.host_room = {};
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
    for (const SlotBias& bias : adapter->biases) {
      plan.gain_floats += plan.made_count(bias);
      plan.made_floats += plan.made_count(bias);
      if (bias.of_weight != nullptr) plan.cost.add_product(session.slots().source(bias.slot), bias.rows);
    }
  }
  sort_slots(plan.slots);
  if (session.is_on_device())
    count_on_device(plan);
  else if (plan.has_deltas())
    plan.bytes[Category::scratch] = session.workspace().growth_for_deltas();

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
    if (session.is_on_device() && !plan.is_merged_by_host(slot)) count_merge_room(plan, slot);
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
      size_of.template operator()<kernels::LowRankTerm>(plan.term_count + plan.gathered_count +
                                                        plan.placed_count) +
      size_of.template operator()<kernels::DeltaTerm>(plan.delta_count + plan.gathered_delta_count);
}

} // namespace tenon

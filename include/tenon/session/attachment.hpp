// SPDX-License-Identifier: Apache-2.0
// What a guard puts into the slots: list nodes and terms in one block of memory, made from a plan, linked
// together and unlinked together. Making one may throw and changes no slot; linking and unlinking cannot
// fail.
#pragma once

#include <tenon/memory/buffer.hpp>
#include <tenon/session/attach_plan.hpp>
#include <tenon/session/device_terms.hpp>
#include <tenon/session/made_terms.hpp>
#include <tenon/session/overlay_pass.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

class Attachment {
 public:
  /// Nodes for a counted plan; overlays lie one after the other from `overlay_bytes` on, or in the model's
  /// weights. Throws as Buffer does.
  Attachment(const AttachPlan& plan, std::byte* overlay_bytes, std::string_view operation)
      : nodes_(plan.session->ledger(), Category::adapter, plan.bytes[Category::adapter], operation),
        device_terms_(plan, operation) {
    if (plan.writes_weights())
      make_overlays(plan, overlay_bytes);
    else
      make_side_terms(plan);
    make_biases(plan);
    gains_ = carve<float>(plan.gain_floats);
  }

  /// Sets the terms of other kinds than LoRA and of biases: their scales, and what follows from the pristine weights.
  /// For DoRA and GLoRA's W C that is a pass over each weight, after which `watch(slot, bytes)` is called; what it
  /// throws goes through.
  template <class Watch>
  void fill_terms(const AttachPlan& plan, Watch watch) {
    made_terms_.make(plan, gains_, device_terms_, watch);
  }

  /// Gives terms beside weights the strengths of `plan`, the one it was made from but for its weights. Throws as
  /// DeviceLane does; `set_scales` with the plan of before then takes it back.
  void rescale(const AttachPlan& plan) {
    set_scales(plan);
    device_terms_.send_scales(plan, sides_);
    made_terms_.rescale(plan, gains_, device_terms_); // on the host, where nothing fails
  }
  void set_scales(const AttachPlan& plan) noexcept {
    std::size_t i = 0;
    visit_factors(plan, [&](std::size_t a, const SlotFactors& factors) {
      sides_[i++].term.scale = low_rank_term(factors, plan.weight_at(a, factors.slot)).scale;
    });
    made_terms_.set_bias_scales(plan);
  }

  [[nodiscard]] std::span<OverlayNode> overlays() noexcept { return overlays_; }
  /// What each overlay lost, in their order; empty where it is not measured.
  [[nodiscard]] std::span<const kernels::MergeLoss> losses() const noexcept { return losses_; }
  [[nodiscard]] LossRoom loss_room(std::size_t overlay) noexcept {
    return losses_.empty() ? LossRoom{} : LossRoom{&losses_[overlay], loss_blocks_};
  }

  void link(SlotTable& slots) noexcept {
    link_sides(slots);
    for (OverlayNode& overlay : overlays_) slots.add(overlay);
  }
  /// Links these overlays and unlinks those of `before`, whose bytes they may have taken over.
  void link_instead_of(Attachment& before, SlotTable& slots) noexcept {
    std::size_t next = 0;
    for (OverlayNode& old : before.overlays_) {
      while (next < overlays_.size() && overlays_[next].slot < old.slot) slots.add(overlays_[next++]);
      if (next < overlays_.size() && overlays_[next].slot == old.slot)
        slots.replace(old, overlays_[next++]);
      else
        slots.remove(old);
    }
    while (next < overlays_.size()) slots.add(overlays_[next++]);
    before.unlink_sides(slots);
    link_sides(slots);
  }
  void unlink(SlotTable& slots) noexcept {
    unlink_sides(slots);
    for (OverlayNode& overlay : overlays_) slots.remove(overlay);
  }

 private:
  template <class T>
  [[nodiscard]] std::span<T> carve(std::int64_t count) noexcept {
    T* const first = reinterpret_cast<T*>(nodes_.data() + carved_);
    carved_ += count * static_cast<std::int64_t>(sizeof(T));
    for (std::int64_t i = 0; i < count; ++i) ::new (static_cast<void*>(first + i)) T{};
    return {first, static_cast<std::size_t>(count)};
  }

  void make_side_terms(const AttachPlan& plan) {
    sides_ = carve<SideTerm>(plan.term_count);
    side_deltas_ = carve<SideDelta>(plan.delta_count);
    side_slots_.reserve(sides_.size());
    visit_factors(plan, [&](std::size_t a, const SlotFactors& factors) {
      kernels::LowRankTerm& term = sides_[side_slots_.size()].term;
      term = low_rank_term(factors, plan.weight_at(a, factors.slot));
      device_terms_.place(a, term);
      side_slots_.push_back(factors.slot);
    });
    device_terms_.send_scales(plan, sides_);
    for (std::size_t a = 0; a < plan.adapters.size(); ++a)
      for (const SlotDelta& delta : plan.adapters[a]->deltas)
        made_terms_.add(delta, a, side_deltas_[made_terms_.delta_count()].term);
  }
  template <class F>
  static void visit_factors(const AttachPlan& plan, F f) {
    for (std::size_t a = 0; a < plan.adapters.size(); ++a)
      for (const SlotFactors& factors : plan.adapters[a]->factors) f(a, factors);
  }

  void make_biases(const AttachPlan& plan) {
    biases_ = carve<SideBias>(plan.bias_count);
    std::size_t made = 0;
    for (std::size_t a = 0; a < plan.adapters.size(); ++a)
      for (const SlotBias& bias : plan.adapters[a]->biases) made_terms_.add(bias, a, biases_[made++].term);
  }

  void link_sides(SlotTable& slots) noexcept {
    for (std::size_t i = 0; i < sides_.size(); ++i) slots.add(side_slots_[i], sides_[i]);
    for (std::size_t i = 0; i < side_deltas_.size(); ++i)
      slots.add(made_terms_.delta_slot(i), side_deltas_[i]);
    for (std::size_t i = 0; i < biases_.size(); ++i) slots.add(made_terms_.bias_slot(i), biases_[i]);
  }
  void unlink_sides(SlotTable& slots) noexcept {
    for (std::size_t i = 0; i < sides_.size(); ++i) slots.remove(side_slots_[i], sides_[i]);
    for (std::size_t i = 0; i < side_deltas_.size(); ++i)
      slots.remove(made_terms_.delta_slot(i), side_deltas_[i]);
    for (std::size_t i = 0; i < biases_.size(); ++i) slots.remove(made_terms_.bias_slot(i), biases_[i]);
  }

  /// Terms slot by slot, within a slot in the order of the adapters, whose factors are in ascending order of
  /// slots.
  void make_overlays(const AttachPlan& plan, std::byte* bytes) {
    std::vector<std::size_t> next(plan.adapters.size(), 0);
    std::vector<std::size_t> next_delta(plan.adapters.size(), 0);
    overlays_ = carve<OverlayNode>(std::ssize(plan.slots));
    const std::span<kernels::LowRankTerm> terms = carve<kernels::LowRankTerm>(plan.term_count);
    std::span<kernels::LowRankTerm> placed = carve<kernels::LowRankTerm>(plan.placed_count);
    std::span<kernels::LowRankTerm> gathered = carve<kernels::LowRankTerm>(plan.gathered_count);
    const std::span<kernels::DeltaTerm> deltas = carve<kernels::DeltaTerm>(plan.delta_count);
    std::span<kernels::DeltaTerm> gathered_deltas = carve<kernels::DeltaTerm>(plan.gathered_delta_count);
    if (plan.measures_loss) {
      losses_ = carve<kernels::MergeLoss>(std::ssize(plan.slots));
      loss_blocks_ = carve<kernels::MergeLoss>(plan.loss_blocks);
    }
    std::size_t made = 0;
    const SlotTable& slots = plan.session->slots();
    for (std::size_t i = 0; i < plan.slots.size(); ++i) {
      const std::size_t first = made;
      const std::size_t first_delta = made_terms_.delta_count();
      const bool is_placed = plan.session->is_on_device() && !plan.is_merged_by_host(plan.slots[i]);
      for (std::size_t a = 0; a < plan.adapters.size(); ++a) {
        const std::vector<SlotFactors>& factors = plan.adapters[a]->factors;
        for (; next[a] < factors.size() && factors[next[a]].slot == plan.slots[i]; ++next[a], ++made) {
          terms[made] = low_rank_term(factors[next[a]], plan.weight_at(a, plan.slots[i]));
          if (is_placed) device_terms_.place(a, placed[made - first] = terms[made]);
        }
        const std::vector<SlotDelta>& others = plan.adapters[a]->deltas;
        for (; next_delta[a] < others.size() && others[next_delta[a]].slot == plan.slots[i]; ++next_delta[a])
          made_terms_.add(others[next_delta[a]], a, deltas[made_terms_.delta_count()]);
      }
      OverlayNode& overlay = overlays_[i];
      overlay.slot = plan.slots[i];
      overlay.is_in_place = plan.mode == AttachMode::in_place;
      // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): a model that owns its weights lent them to this session
      overlay.data = overlay.is_in_place ? const_cast<std::byte*>(slots.weight(overlay.slot).data) : bytes;
      overlay.terms = terms.subspan(first, made - first);
      std::size_t room = overlay.terms.size();
      plan.visit_terms_below(overlay.slot, [&room](const kernels::LowRankTerm&) { ++room; });
      overlay.gathered = gathered.first(room);
      gathered = gathered.subspan(room);
      if (is_placed) {
        overlay.device_terms = placed.first(overlay.terms.size());
        placed = placed.subspan(overlay.terms.size());
        overlay.device_room = device_terms_.merge_room();
      } else {
        overlay.host_rows = device_terms_.host_rows();
        overlay.host_scratch = device_terms_.host_scratch();
      }
      overlay.deltas = deltas.subspan(first_delta, made_terms_.delta_count() - first_delta);
      const auto delta_room =
          overlay.deltas.size() + static_cast<std::size_t>(plan.deltas_below(overlay.slot));
      overlay.gathered_deltas = gathered_deltas.first(delta_room);
      gathered_deltas = gathered_deltas.subspan(delta_room);
      if (!overlay.is_in_place) bytes += plan.overlay_stride(slots.source(overlay.slot));
    }
  }

  Buffer nodes_{};
  std::int64_t carved_ = 0;
  DeviceTerms device_terms_{};
  MadeTerms made_terms_{};
  std::span<SideTerm> sides_{};
  std::vector<std::int32_t> side_slots_{};
  std::span<SideDelta> side_deltas_{};
  std::span<SideBias> biases_{};
  std::span<float> gains_{};
  std::span<OverlayNode> overlays_{};
  std::span<kernels::MergeLoss> losses_{};
  std::span<kernels::MergeLoss> loss_blocks_{};
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// The guard: while it lives, its adapters are attached; when it ends, or is released, each of its slots
// computes again with what it had before, bit for bit, because the base was never written. Guards may nest
// and end in any order. Making one does all the work and may throw, and then nothing has changed. Ending one
// cannot fail, allocates nothing and costs a few instructions a slot.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/session/attach_plan.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace tenon {

/// Immovable: a moved guard would have no right place to end. Made by `Session::attach`; where it is only
/// sometimes wanted, `std::optional<Guard> guard; guard.emplace(session.plan(tone));`.
class [[nodiscard]] Guard {
 public:
  /// Throws `budget_error` before anything is taken if the plan's bytes do not fit, `error{out_of_memory}`,
  /// and `error{io}` if a file changed since it was mapped. Strong guarantee.
  /// The plan is counted anew: guards may have come and gone since it was made.
  explicit Guard(AttachPlan plan)
      : plan_(plan_attach(*plan.session, plan.is_merged, std::move(plan.adapters), std::move(plan.weights))) {
    SessionState& session = *plan_.session;
    const char* const operation = plan_.is_merged ? "attach (merged)" : "attach (side path)";
    check_files(plan_);
    session.overlays().require(plan_.bytes, operation);
    nodes_ = Buffer(session.ledger(), Category::adapter, plan_.bytes[Category::adapter], operation);
    if (plan_.is_merged) {
      std::vector<std::size_t> next(plan_.adapters.size(), 0);
      overlay_bytes_ = session.overlays().take(plan_.bytes[Category::overlay], operation);
      make_overlays(next);
    } else {
      make_side_terms();
    }
    link(); // nothing from here on can fail
  }
  ~Guard() { release(); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  /// Ends the attachment now; the guard's bytes go back. Further calls do nothing.
  void release() noexcept {
    if (!attached_) return;
    attached_ = false;
    SlotTable& slots = plan_.session->slots();
    for (std::size_t i = 0; i < sides_.size(); ++i) slots.remove(side_slots_[i], sides_[i]);
    for (OverlayNode& overlay : overlays_) slots.remove(overlay);
    plan_.session->guard_ends();
    nodes_ = Buffer();
    plan_.session->overlays().give(std::move(overlay_bytes_));
  }

  /// From this merged attachment to another, in one pass over each weight from the pristine base: what
  /// `release` and a new guard would give, in the same bytes. `next` is a plan of the same session in the
  /// same mode; a changed scale is one too. Where both change the same slots no weight memory is taken; else
  /// room for both is needed at once. Throws as the constructor does, and `error{bad_argument}` for a plan of
  /// another session or mode, `error{wrong_state}` if this guard was released; what was attached is then
  /// attached still.
  void switch_to(AttachPlan next) {
    if (!attached_) throw error(ErrorCode::wrong_state, "switch_to: this guard was released; attach anew");
    if (next.session != plan_.session || !next.is_merged || !plan_.is_merged)
      throw error(ErrorCode::bad_argument,
                  "switch_to: expected a merged guard and a merged plan of the same session; use "
                  "session.plan<merged>(...)");
    SessionState& session = *plan_.session;
    AttachPlan plan = plan_attach(session, true, std::move(next.adapters), std::move(next.weights));
    leave_out_own_terms(plan);
    check_files(plan);
    const bool same_slots = plan.slots == plan_.slots;
    BytesByCategory asked = plan.bytes;
    if (same_slots) asked[Category::overlay] = 0;
    session.overlays().require(asked, "switch (merged)");
    Buffer nodes(session.ledger(), Category::adapter, plan.bytes[Category::adapter], "switch (merged)");
    Buffer overlays;
    if (!same_slots) overlays = session.overlays().take(plan.bytes[Category::overlay], "switch (merged)");
    std::vector<std::size_t> position(plan.adapters.size(), 0);
    // nothing from here on can fail
    for (OverlayNode& overlay : overlays_) session.slots().remove(overlay);
    nodes_ = std::move(nodes);
    carved_ = 0;
    if (!same_slots) {
      session.overlays().give(std::move(overlay_bytes_));
      overlay_bytes_ = std::move(overlays);
    }
    plan_ = std::move(plan);
    make_overlays(position);
    for (OverlayNode& overlay : overlays_) session.slots().add(overlay);
    session.guard_switches();
  }

  [[nodiscard]] bool attached() const noexcept { return attached_; }
  /// Slots that it changes, while attached.
  [[nodiscard]] std::int64_t slot_count() const noexcept { return std::ssize(plan_.slots); }
  /// What it holds while attached.
  [[nodiscard]] const BytesByCategory& bytes() const noexcept { return plan_.bytes; }

 private:
  static void check_files(const AttachPlan& plan) {
    plan.session->model().checkpoint.check_unchanged();
    for (const auto& adapter : plan.adapters) adapter->file.check_unchanged();
  }

  template <class T>
  [[nodiscard]] std::span<T> carve(std::int64_t count) noexcept {
    T* const first = reinterpret_cast<T*>(nodes_.data() + carved_);
    carved_ += count * static_cast<std::int64_t>(sizeof(T));
    for (std::int64_t i = 0; i < count; ++i) ::new (static_cast<void*>(first + i)) T{};
    return {first, static_cast<std::size_t>(count)};
  }

  [[nodiscard]] kernels::LowRankTerm term(std::size_t adapter, const SlotFactors& factors) const noexcept {
    return {factors.a, factors.b, static_cast<float>(factors.scale * plan_.weights[adapter])};
  }

  /// A plan made while this guard is attached counts its terms among those that new overlays must hold as
  /// well.
  void leave_out_own_terms(AttachPlan& plan) const noexcept {
    for (const OverlayNode& overlay : overlays_) {
      if (!std::binary_search(plan.slots.begin(), plan.slots.end(), overlay.slot)) continue;
      const std::int64_t own = std::ssize(overlay.terms);
      plan.gathered_count -= own;
      plan.bytes[Category::adapter] -= own * static_cast<std::int64_t>(sizeof(kernels::LowRankTerm));
    }
  }

  void make_side_terms() {
    sides_ = carve<SideTerm>(plan_.term_count);
    side_slots_.reserve(sides_.size());
    for (std::size_t a = 0; a < plan_.adapters.size(); ++a)
      for (const SlotFactors& factors : plan_.adapters[a]->factors) {
        sides_[side_slots_.size()].term = term(a, factors);
        side_slots_.push_back(factors.slot);
      }
  }

  /// Terms slot by slot, within a slot in the order of the adapters; then one pass over each weight. `next`
  /// has a zero for each adapter, whose factors are in ascending order of slots.
  void make_overlays(std::vector<std::size_t>& next) noexcept {
    overlays_ = carve<OverlayNode>(std::ssize(plan_.slots));
    const std::span<kernels::LowRankTerm> terms = carve<kernels::LowRankTerm>(plan_.term_count);
    std::span<kernels::LowRankTerm> gathered = carve<kernels::LowRankTerm>(plan_.gathered_count);
    std::size_t made = 0;
    std::int64_t offset = 0;
    const SlotTable& slots = plan_.session->slots();
    for (std::size_t i = 0; i < plan_.slots.size(); ++i) {
      const std::size_t first = made;
      for (std::size_t a = 0; a < plan_.adapters.size(); ++a) {
        const std::vector<SlotFactors>& factors = plan_.adapters[a]->factors;
        if (next[a] < factors.size() && factors[next[a]].slot == plan_.slots[i])
          terms[made++] = term(a, factors[next[a]++]);
      }
      OverlayNode& overlay = overlays_[i];
      overlay.slot = plan_.slots[i];
      overlay.data = overlay_bytes_.data() + offset;
      overlay.terms = terms.subspan(first, made - first);
      const std::size_t room = overlay.terms.size() + slots.merged_terms(overlay.slot);
      overlay.gathered = gathered.first(room);
      gathered = gathered.subspan(room);
      offset += AttachPlan::overlay_stride(slots.base(overlay.slot));
      slots.write_overlay(overlay, plan_.session->workspace().scratch());
    }
  }

  void link() noexcept {
    SlotTable& slots = plan_.session->slots();
    for (std::size_t i = 0; i < sides_.size(); ++i) slots.add(side_slots_[i], sides_[i]);
    for (OverlayNode& overlay : overlays_) slots.add(overlay);
    plan_.session->guard_begins();
    attached_ = true;
  }

  AttachPlan plan_;
  Buffer nodes_{};
  Buffer overlay_bytes_{};
  std::int64_t carved_ = 0;
  std::span<SideTerm> sides_{};
  std::vector<std::int32_t> side_slots_{};
  std::span<OverlayNode> overlays_{};
  bool attached_ = false;
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// The guard: while it lives, its adapters are attached; when it ends, or is released, each of its slots
// computes again with what it had before, bit for bit: the base was never written, or, in place, is copied
// from its source again. Guards may nest and end in any order. Making one does all the work and may throw,
// and then nothing has changed. Ending one cannot fail, allocates nothing and costs a few instructions a
// slot; in place, a copy of the weights.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/error.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/session/attach_plan.hpp>
#include <tenon/session/attach_progress.hpp>
#include <tenon/session/attachment.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace tenon {

/// Immovable: a moved guard would have no right place to end. Made by `Session::attach`; where it is only
/// sometimes wanted, `std::optional<Guard> guard; guard.emplace(session.plan(tone));`.
class [[nodiscard]] Guard {
 public:
  /// Throws `budget_error` before anything is taken if the plan's bytes do not fit, `error{out_of_memory}`,
  /// `error{io}` if a file changed since it was mapped, `error{cancelled}` if `progress` asks for it; in
  /// place `error{bad_argument}` for a model that maps its weights, `error{wrong_state}` if another session
  /// uses it. Strong guarantee.
  TENON_INLINE explicit Guard(AttachPlan plan, ProgressRef progress = {});
  ~Guard() { release(); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  /// Ends the attachment now; the guard's bytes go back. Further calls do nothing.
  TENON_INLINE void release() noexcept;

  /// From this merged attachment to another, in one pass over each weight from the pristine base: what
  /// `release` and a new guard would give, in the same bytes. `next` is a plan of
  /// the same session in the same mode; a changed scale is one too. Where both change the same slots
  /// no weight memory is taken; else room for both is needed at once. Throws as the constructor does, and
  /// `error{bad_argument}` for a plan of another session or mode, `error{wrong_state}` if this guard was
  /// released; what was attached is then attached still.
  TENON_INLINE void switch_to(AttachPlan next, ProgressRef progress = {});

  [[nodiscard]] bool attached() const noexcept { return attached_; }
  [[nodiscard]] AttachMode mode() const noexcept { return plan_.mode; }
  /// What was counted before it was attached: bytes by category that it holds, operations, memory traffic.
  /// After `attach<automatic>`, its `reason` says why this mode was taken.
  [[nodiscard]] const AttachPlan& plan() const noexcept { return plan_; }
  /// Slots that it changes, while attached.
  [[nodiscard]] std::int64_t slot_count() const noexcept { return std::ssize(plan_.slots); }
  /// What rounding cost the merge, of all its slots or of one: measured with `measure_loss`, else zeros. It
  /// is the loss of all terms that the slot's overlay holds, those of guards below included, when it was
  /// written.
  [[nodiscard]] kernels::MergeLoss loss() const noexcept {
    kernels::MergeLoss sum;
    for (const kernels::MergeLoss& lost : attachment_.losses()) sum += lost;
    return sum;
  }
  [[nodiscard]] kernels::MergeLoss loss(std::int32_t slot) const noexcept {
    const auto losses = attachment_.losses();
    for (std::size_t i = 0; i < losses.size(); ++i)
      if (plan_.slots[i] == slot) return losses[i];
    return {};
  }
  /// What it holds while attached.
  [[nodiscard]] const BytesByCategory& bytes() const noexcept { return plan_.bytes; }

 private:
  /// An in-place guard's claim on the model's own weights.
  class Claim {
   public:
    explicit Claim(const AttachPlan& plan) {
      if (plan.mode != AttachMode::in_place) return;
      plan.session->in_place_guard_begins();
      session_ = plan.session;
    }
    ~Claim() { end(); }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    void end() noexcept {
      if (SessionState* const session = std::exchange(session_, nullptr)) session->in_place_guard_ends();
    }

   private:
    SessionState* session_ = nullptr;
  };

  static void check_files(const AttachPlan& plan) {
    plan.session->model().check_unchanged();
    for (const auto& adapter : plan.adapters) adapter->file.check_unchanged();
  }

  /// Makes gains and writes the overlays' bytes. If it is stopped, all bytes that were there before are there
  /// again.
  TENON_INLINE static void write(Attachment& attachment, const AttachPlan& plan, ProgressRef progress);

  /// Of the overlays up to `last`, those that lie where others lay.
  TENON_INLINE static void take_back(Attachment& attachment, const OverlayNode& last,
                                     const AttachPlan& plan) noexcept;

  AttachPlan plan_;
  Claim claim_;
  Buffer overlay_bytes_{};
  Attachment attachment_{};
  bool attached_ = false;
};

#if TENON_HAS_BODIES
TENON_INLINE Guard::Guard(AttachPlan plan, ProgressRef progress) : plan_(std::move(plan)), claim_(plan_) {
  SessionState& session = *plan_.session;
  const std::string operation = concat("attach (", attach_mode_name(plan_.mode), ")");
  // guards have come and gone, or the session's threads and scratch are others
  if (plan_.generation != session.adapter_generation() || plan_.has_deltas()) count_plan(plan_);
  check_files(plan_);
  session.overlays().require(plan_.bytes, operation);
  Workspace::Growth scratch(session.workspace(), plan_.has_deltas());
  OverlayPool::Loan overlays(session.overlays(), plan_.bytes[Category::overlay], operation);
  attachment_ = Attachment(plan_, overlays.data(), operation);
  write(attachment_, plan_, progress);
  attachment_.link(session.slots()); // nothing from here on can fail
  overlay_bytes_ = overlays.claim();
  scratch.keep();
  plan_.bytes[Category::scratch] = 0; // the session's from now on
  session.guard_begins();
  attached_ = true;
}

TENON_INLINE void Guard::release() noexcept {
  if (!attached_) return;
  attached_ = false;
  SessionState& session = *plan_.session;
  if (plan_.mode == AttachMode::in_place) session.check_sources();
  attachment_.unlink(session.slots());
  session.guard_ends();
  attachment_ = {};
  session.overlays().give(std::move(overlay_bytes_));
  claim_.end();
}

TENON_INLINE void Guard::switch_to(AttachPlan next, ProgressRef progress) {
  if (!attached_) throw error(ErrorCode::wrong_state, "switch_to: this guard was released; attach anew");
  if (next.session != plan_.session || next.mode != plan_.mode || !plan_.writes_weights())
    throw error(ErrorCode::bad_argument,
                "switch_to: expected a merged guard and a merged plan of the same session; use "
                "session.plan<merged>(...)");
  SessionState& session = *plan_.session;
  next.replaced = attachment_.overlays();
  count_plan(next);
  check_files(next);
  const std::string operation = concat("switch (", attach_mode_name(plan_.mode), ")");
  const bool keeps_bytes = next.slots == plan_.slots;
  BytesByCategory asked = next.bytes;
  if (keeps_bytes) asked[Category::overlay] = 0;
  session.overlays().require(asked, operation);
  OverlayPool::Loan bytes(session.overlays(), asked[Category::overlay], operation);
  Workspace::Growth scratch(session.workspace(), next.has_deltas());
  Attachment fresh(next, keeps_bytes ? overlay_bytes_.data() : bytes.data(), operation);
  write(fresh, next, progress);
  fresh.link_instead_of(attachment_, session.slots()); // nothing from here on can fail
  scratch.keep();
  next.bytes[Category::scratch] = 0; // the session's from now on
  attachment_ = std::move(fresh);
  if (!keeps_bytes) {
    session.overlays().give(std::move(overlay_bytes_));
    overlay_bytes_ = bytes.claim();
  }
  plan_ = std::move(next);
  plan_.replaced = {};
  session.guard_switches();
}

TENON_INLINE void Guard::write(Attachment& attachment, const AttachPlan& plan, ProgressRef progress) {
  SessionState& session = *plan.session;
  AttachProgress now{.bytes_total = plan.cost.bytes_written + plan.cost.bytes_measured};
  std::string name;
  const auto advance = [&](std::int64_t bytes) {
    now.bytes_done += bytes;
    if (!progress) return;
    now.slot = name;
    if (!progress(now))
      throw error(ErrorCode::cancelled,
                  concat("attach: cancelled at ", name, ", after ", bytes_text(now.bytes_done), " of ",
                         bytes_text(now.bytes_total)),
                  {.layer = name});
  };
  const auto take_name = [&](std::int32_t slot) {
    if (progress) name = slot_path(session.program(), slot);
  };
  attachment.fill_terms(plan, [&](std::int32_t slot, std::int64_t bytes) {
    take_name(slot);
    advance(bytes);
  });
  for (std::size_t i = 0; i < attachment.overlays().size(); ++i) {
    OverlayNode& overlay = attachment.overlays()[i];
    try {
      take_name(overlay.slot);
      session.write(overlay, session.slots().top(overlay.slot), plan.replaced_at(overlay.slot),
                    attachment.loss_room(i), advance);
    } catch (...) {
      take_back(attachment, overlay, plan);
      throw;
    }
  }
}

TENON_INLINE void Guard::take_back(Attachment& attachment, const OverlayNode& last,
                                   const AttachPlan& plan) noexcept {
  SlotTable& slots = plan.session->slots();
  for (OverlayNode& overlay : attachment.overlays()) {
    OverlayNode* const old = plan.replaced_at(overlay.slot);
    if (overlay.is_in_place)
      slots.leave_weight(overlay.slot);
    else if (old != nullptr && old->data == overlay.data)
      slots.mark_stale(*old);
    if (&overlay == &last) break;
  }
  plan.session->refresh();
}
#endif

} // namespace tenon

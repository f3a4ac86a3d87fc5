// SPDX-License-Identifier: Apache-2.0
// How a guard carries out its plan: what must fit is asked first, bytes are taken and written, and only then, when
// nothing can fail any more, the slots are linked; and how it ends, switches and changes its strength.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/error.hpp>
#include <tenon/session/attachment.hpp>
#include <tenon/session/device_kinds.hpp>
#include <tenon/session/guard.hpp>
#include <tenon/session/written_weights.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

/// Scratch is the session's from now on; on a device the host's stays with the guard, which may have to merge again.
inline void leave_scratch(AttachPlan& plan) noexcept {
  if (!plan.session->is_on_device()) plan.bytes[Category::scratch] = 0;
}

TENON_INLINE Guard::Guard(AttachPlan plan, ProgressRef progress) : plan_(std::move(plan)), claim_(plan_) {
  SessionState& session = *plan_.session;
  const std::string operation = concat("attach (", attach_mode_name(plan_.mode), ")");
  // guards have come and gone, or the session's threads and scratch are others
  if (plan_.generation != session.adapter_generation() || plan_.has_deltas()) count_plan(plan_);
  check_files(plan_);
  require(plan_, plan_.bytes_at_weights(), operation);
  Workspace::Growth scratch(session.workspace(), plan_.has_deltas());
  OverlayPool::Loan overlays(session.overlays(), plan_.bytes_at_weights()[Category::overlay], operation);
  attachment_ = std::make_unique<Attachment>(plan_, overlays.data(), operation);
  write(*attachment_, plan_, progress);
  attachment_->link(session.slots()); // nothing from here on can fail
  overlay_bytes_ = overlays.claim();
  scratch.keep();
  leave_scratch(plan_);
  session.guard_begins();
  attached_ = true;
}

TENON_INLINE Guard::~Guard() { release(); }

TENON_INLINE kernels::MergeLoss Guard::loss() const noexcept {
  kernels::MergeLoss sum;
  if (attachment_ != nullptr)
    for (const kernels::MergeLoss& lost : attachment_->losses()) sum += lost;
  return sum;
}

TENON_INLINE kernels::MergeLoss Guard::loss(std::int32_t slot) const noexcept {
  if (attachment_ == nullptr) return {};
  const auto losses = attachment_->losses();
  for (std::size_t i = 0; i < losses.size(); ++i)
    if (plan_.slots[i] == slot) return losses[i];
  return {};
}

TENON_INLINE void Guard::release() noexcept {
  if (!attached_) return;
  attached_ = false;
  SessionState& session = *plan_.session;
  if (plan_.mode == AttachMode::in_place) session.check_sources();
  attachment_->unlink(session.slots());
  session.guard_ends();
  attachment_.reset();
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
  next.replaced = attachment_->overlays();
  count_plan(next);
  check_files(next);
  const std::string operation = concat("switch (", attach_mode_name(plan_.mode), ")");
  const bool keeps_bytes = next.slots == plan_.slots;
  BytesByCategory asked = next.bytes_at_weights();
  if (keeps_bytes) asked[Category::overlay] = 0;
  require(next, asked, operation);
  OverlayPool::Loan bytes(session.overlays(), asked[Category::overlay], operation);
  Workspace::Growth scratch(session.workspace(), next.has_deltas());
  auto fresh =
      std::make_unique<Attachment>(next, keeps_bytes ? overlay_bytes_.data() : bytes.data(), operation);
  write(*fresh, next, progress);
  fresh->link_instead_of(*attachment_, session.slots()); // nothing from here on can fail
  scratch.keep();
  leave_scratch(next);
  attachment_ = std::move(fresh);
  if (!keeps_bytes) {
    session.overlays().give(std::move(overlay_bytes_));
    overlay_bytes_ = bytes.claim();
  }
  plan_ = std::move(next);
  plan_.replaced = {};
  session.guard_switches();
}

TENON_INLINE void Guard::rescale(double factor) {
  if (!attached_) throw error(ErrorCode::wrong_state, "rescale: this guard was released; attach anew");
  if (plan_.writes_weights()) {
    AttachPlan next = plan_;
    for (double& weight : next.weights) weight *= factor;
    return switch_to(std::move(next));
  }
  check_files(plan_);
  const std::vector<double> before = plan_.weights;
  for (double& weight : plan_.weights) weight *= factor;
  try {
    attachment_->rescale(plan_);
  } catch (...) {
    plan_.weights = before;
    attachment_->set_scales(plan_);
    throw;
  }
  if (plan_.delta_count == 0 && plan_.bias_count == 0)
    plan_.session->guard_rescales();
  else
    plan_.session->guard_switches();
}

TENON_INLINE void Guard::require(const AttachPlan& plan, const BytesByCategory& at_weights,
                                 std::string_view operation) {
  SessionState& session = *plan.session;
  if (session.is_on_device()) {
    check_device_kinds(plan, operation);
    session.ledger().require(plan.bytes, operation);
  }
  session.overlays().require(at_weights, operation); // last: it may let kept overlays go
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
    if (session.is_on_device() && !plan.is_merged_by_host(slot)) { // else it is read again, and then dropped
      const TensorView& source = session.slots().source(slot);
      drop_pages({.data = source.data, .bytes = static_cast<std::size_t>(source.bytes())});
    }
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

} // namespace tenon

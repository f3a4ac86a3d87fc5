// SPDX-License-Identifier: Apache-2.0
// The guard: while it lives, its adapters are attached; when it ends, or is released, each of its slots
// computes again with what it had before, bit for bit: the base was never written, or, in place, is copied
// from its source again. Guards may nest and end in any order. Making one does all the work and may throw,
// and then nothing has changed. Ending one cannot fail, allocates nothing and costs a few instructions a
// slot; in place, a copy of the weights.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/error.hpp>
#include <tenon/kernels/merge_loss.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/session/attach_plan.hpp>
#include <tenon/session/attach_progress.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace tenon {

class Attachment; // session/attachment.hpp

/// Immovable: a moved guard would have no right place to end. Made by `Session::attach`; where it is only
/// sometimes wanted, `std::optional<Guard> guard; guard.emplace(session.plan(tone));`.
class [[nodiscard]] Guard {
 public:
  /// Throws `budget_error` before anything is taken if the plan's bytes do not fit, `error{out_of_memory}`,
  /// `error{io}` if a file changed since it was mapped, `error{cancelled}` if `progress` asks for it; in
  /// place `error{bad_argument}` for a model that maps its weights, `error{wrong_state}` if another session
  /// uses it. Strong guarantee.
  TENON_INLINE explicit Guard(AttachPlan plan, ProgressRef progress = {});
  TENON_INLINE ~Guard();
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

  /// From now on `factor` times the strengths it has now. Beside the weights only numbers change (and DoRA's gains,
  /// which follow from them); a guard that writes weights writes them once more, as `switch_to` does. Throws
  /// `error{wrong_state}` if it was released, and as `switch_to`; the strengths are then what they were.
  TENON_INLINE void rescale(double factor);

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
  [[nodiscard]] TENON_INLINE kernels::MergeLoss loss() const noexcept;
  [[nodiscard]] TENON_INLINE kernels::MergeLoss loss(std::int32_t slot) const noexcept;
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

  /// Refuses bytes that do not fit their budgets, and what a device does not do. Throws `budget_error`,
  /// `error{unsupported}`.
  TENON_INLINE static void require(const AttachPlan& plan, const BytesByCategory& at_weights,
                                   std::string_view operation);

  /// Makes gains and writes the overlays' bytes. If it is stopped, all bytes that were there before are there
  /// again.
  TENON_INLINE static void write(Attachment& attachment, const AttachPlan& plan, ProgressRef progress);

  /// Of the overlays up to `last`, those that lie where others lay.
  TENON_INLINE static void take_back(Attachment& attachment, const OverlayNode& last,
                                     const AttachPlan& plan) noexcept;

  AttachPlan plan_;
  Claim claim_;
  Buffer overlay_bytes_{};
  std::unique_ptr<Attachment> attachment_; ///< null once it was released
  bool attached_ = false;
};

} // namespace tenon

#if TENON_HAS_BODIES
#include <tenon/session/carry_out.hpp>
#endif

// SPDX-License-Identifier: Apache-2.0
// The rule of `attach<automatic>`: the side path, unless merging costs less for the rows expected, loses
// nothing, and fits. In full:
//   1. A merge of 16-bit weights rounds them, so it is taken only with `Expect::accept_rounding`.
//   2. It pays from `break_even_rows` on, where the operations that the side path adds to that many rows
//      exceed the operations of the merge, a byte of weights read or written counting as 8 of them.
//   3. Its overlays must fit the budget beside what is held now. Where they do not, but the model owns its
//      weights and no other session uses it, it is merged in place, if that pays: the weights are then
//      written, and read from their source, a second time at the end.
//   4. What a device does not compute beside a weight is merged there, whatever 1 and 2 say: in place by 3.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/text.hpp>
#include <tenon/session/attach_plan.hpp>
#include <tenon/session/device_kinds.hpp>

#include <algorithm>
#include <cstdint>
#include <utility>

namespace tenon {

/// Operations that a byte of memory traffic counts as: a core does some 80e9 of these in a second, and moves
/// some 10e9 of those (docs/performance.md).
inline constexpr std::int64_t flops_per_byte = 8;

/// Rows from which on `written`, a plan that writes weights, costs less than `side`, the same adapters as a
/// side path.
[[nodiscard]] inline std::int64_t break_even_rows(const AttachPlan& side,
                                                  const AttachPlan& written) noexcept {
  const AttachCost& cost = written.cost;
  std::int64_t bytes = cost.bytes_read + cost.bytes_written;
  if (written.mode == AttachMode::in_place) bytes += 2 * cost.bytes_written; // to restore them
  const std::int64_t per_row = side.cost.flops_per_row;
  return per_row == 0 ? 0 : (cost.flops + bytes * flops_per_byte + per_row - 1) / per_row;
}

/// The plan for `side`'s adapters in the mode that the rule gives, with its reason.
[[nodiscard]] TENON_INLINE AttachPlan choose_mode(AttachPlan side, const Expect& expect);

#if TENON_HAS_BODIES
/// Whether there is room for a merged plan's bytes beside what is held now.
[[nodiscard]] inline bool overlays_fit(const AttachPlan& plan) {
  BytesByCategory more = plan.bytes_at_weights();
  const std::int64_t kept = plan.session->overlays().kept_bytes(); // which give way, or serve
  more[Category::overlay] -= std::min(more[Category::overlay], kept);
  return plan.session->model().memory->has_room_for(more);
}

[[nodiscard]] inline AttachPlan merge_for_device(AttachPlan plan, const MergedOnly& only) {
  const SessionState& session = *plan.session;
  plan.mode = AttachMode::merged;
  count_plan(plan);
  if (!overlays_fit(plan) && session.can_merge_in_place()) {
    plan.mode = AttachMode::in_place;
    count_plan(plan);
  }
  plan.reason = concat(attach_mode_name(plan.mode), ": ", only.text(session.program()));
  return plan;
}

TENON_INLINE AttachPlan choose_mode(AttachPlan side, const Expect& expect) {
  const SessionState& session = *side.session;
  if (session.is_on_device())
    if (const MergedOnly only = first_merged_only(side)) return merge_for_device(std::move(side), only);
  const auto stay = [&side](auto&&... why) {
    side.reason = concat(why...);
    return std::move(side);
  };
  for (const std::int32_t slot : side.slots) {
    const DType dtype = session.slots().source(slot).dtype;
    if (dtype != DType::f32 && !expect.accept_rounding)
      return stay("side path: a merge would round ", dtype_name(dtype),
                  " weights, and Expect::accept_rounding is not set");
  }
  AttachPlan other = side;
  other.mode = AttachMode::merged;
  count_plan(other);
  if (!overlays_fit(other)) {
    if (!session.can_merge_in_place())
      return stay("side path: overlays of ", bytes_text(other.bytes_at_weights()[Category::overlay]),
                  " do not fit the budget");
    other.mode = AttachMode::in_place;
    count_plan(other);
  }
  const std::int64_t rows = break_even_rows(side, other);
  if (expect.rows < rows)
    return stay("side path: ", expect.rows, " rows expected, and merging (", attach_mode_name(other.mode),
                ") pays from ", rows, " on");
  other.reason = concat(attach_mode_name(other.mode), ": ", expect.rows,
                        " rows expected, and merging pays from ", rows, " on");
  return other;
}
#endif

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// What an attach will do, known before it begins: the adapters with their scales, the slots they change, and
// the bytes by category that the guard will hold. Making a plan changes nothing; a Guard carries one out.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/core/sort_by.hpp>
#include <tenon/session/session_state.hpp>

#include <algorithm>
#include <memory>
#include <vector>

namespace tenon {

/// Attach modes. The side path adds s (x A^T) B^T beside each product: exact, no weight memory.
struct side_path {
  static constexpr bool is_merged = false;
};
/// The overlay holds W + s B A, written out of place in one pass: no cost per product, the changed weights'
/// bytes.
struct merged {
  static constexpr bool is_merged = true;
};

struct AttachPlan {
  SessionState* session = nullptr;
  bool is_merged = false;
  std::vector<std::shared_ptr<const AdapterData>> adapters{};
  std::vector<double> weights{}; ///< of each adapter: attach scale times the handle's own weight

  std::vector<std::int32_t> slots{}; ///< changed, ascending, each once
  std::int64_t term_count = 0;       ///< (adapter, slot) pairs
  std::int64_t gathered_count = 0;   ///< terms that overlays are made of, those of guards below included
  BytesByCategory bytes{};           ///< that the guard will hold

  /// Bytes from one overlay to the next in the guard's block.
  [[nodiscard]] static std::int64_t overlay_stride(const TensorView& base) noexcept {
    return (base.bytes() + wire_alignment - 1) / wire_alignment * wire_alignment;
  }
};

/// Counts slots, terms and bytes. Allocates the plan's own lists only.
[[nodiscard]] inline AttachPlan plan_attach(SessionState& session, bool is_merged,
                                            std::vector<std::shared_ptr<const AdapterData>> adapters,
                                            std::vector<double> weights) {
  AttachPlan plan{.session = &session,
                  .is_merged = is_merged,
                  .adapters = std::move(adapters),
                  .weights = std::move(weights)};
  for (const auto& adapter : plan.adapters) {
    plan.term_count += std::ssize(adapter->factors);
    for (const SlotFactors& factors : adapter->factors) plan.slots.push_back(factors.slot);
  }
  sort_by(plan.slots, [](std::int32_t a, std::int32_t b) { return a < b; });
  plan.slots.erase(std::unique(plan.slots.begin(), plan.slots.end()), plan.slots.end());

  constexpr auto size_of = []<class T>(std::int64_t count) {
    return count * static_cast<std::int64_t>(sizeof(T));
  };
  if (!is_merged) {
    plan.bytes[Category::adapter] = size_of.template operator()<SideTerm>(plan.term_count);
    return plan;
  }
  plan.gathered_count = plan.term_count;
  for (const std::int32_t slot : plan.slots) {
    plan.gathered_count += static_cast<std::int64_t>(session.slots().merged_terms(slot));
    plan.bytes[Category::overlay] += AttachPlan::overlay_stride(session.slots().base(slot));
  }
  plan.bytes[Category::adapter] =
      size_of.template operator()<OverlayNode>(std::ssize(plan.slots)) +
      size_of.template operator()<kernels::LowRankTerm>(plan.term_count + plan.gathered_count);
  return plan;
}

} // namespace tenon

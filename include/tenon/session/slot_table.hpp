// SPDX-License-Identifier: Apache-2.0
// What is attached, slot by slot. Side terms and overlays are list nodes that live in their guard's memory,
// so taking one out needs no allocation, cannot fail and costs the same for every matrix. A slot computes
// with the topmost overlay, or with the base's bytes; nothing here writes to a base weight. When an overlay
// under others goes (guards may end in any order), those above were made with its terms: they are marked and
// made again from the base before the next forward pass.
#pragma once

#include <tenon/graph/program.hpp>
#include <tenon/kernels/merge.hpp>

#include <vector>

namespace tenon {

/// base + the terms of all merged guards up to this one, out of place.
struct OverlayNode {
  std::int32_t slot = 0;
  std::byte* data = nullptr;
  std::span<const kernels::LowRankTerm> terms{}; ///< of this guard
  std::span<kernels::LowRankTerm> gathered{};    ///< room for those of the overlays below as well
  OverlayNode* below = nullptr;
  OverlayNode* above = nullptr;
  bool stale = false;
};

class SlotTable {
 public:
  /// `weights` by the program's numbering, loops expanded.
  SlotTable(const Program& program, std::span<const TensorView> weights)
      : slots_(static_cast<std::size_t>(program.slot_count)) {
    for (const SlotEntry& entry : program.slots) {
      const WeightEntry& weight = program.weights[static_cast<std::size_t>(entry.weight)];
      for (std::int32_t copy = 0; copy < entry.copies; ++copy) {
        State& slot = at(entry.base + copy);
        slot.base = slot.active.weight = weights[static_cast<std::size_t>(weight.base + copy)];
      }
    }
  }

  [[nodiscard]] const ActiveSlot& active(std::int32_t slot) const noexcept {
    return slots_[static_cast<std::size_t>(slot)].active;
  }
  [[nodiscard]] const TensorView& base(std::int32_t slot) const noexcept {
    return slots_[static_cast<std::size_t>(slot)].base;
  }

  void add(std::int32_t slot, SideTerm& term) noexcept {
    ActiveSlot& active = at(slot).active;
    term.previous = active.last;
    term.next = nullptr;
    (active.last != nullptr ? active.last->next : active.first) = &term;
    active.last = &term;
  }
  void remove(std::int32_t slot, SideTerm& term) noexcept {
    ActiveSlot& active = at(slot).active;
    (term.previous != nullptr ? term.previous->next : active.first) = term.next;
    (term.next != nullptr ? term.next->previous : active.last) = term.previous;
  }

  /// How many terms the overlays of a slot hold.
  [[nodiscard]] std::size_t merged_terms(std::int32_t slot) const noexcept {
    std::size_t count = 0;
    for (const OverlayNode* node = slots_[static_cast<std::size_t>(slot)].top; node != nullptr;
         node = node->below)
      count += node->terms.size();
    return count;
  }

  /// Writes base + all merged terms of the slot + those of `node`, which is not attached yet, to the node's
  /// data.
  void write_overlay(OverlayNode& node, kernels::Scratch scratch) const noexcept {
    merge_into(node, slots_[static_cast<std::size_t>(node.slot)].top, scratch);
  }
  void add(OverlayNode& node) noexcept {
    State& slot = at(node.slot);
    node.below = slot.top;
    node.above = nullptr;
    if (slot.top != nullptr) slot.top->above = &node;
    slot.top = &node;
    select(slot);
  }
  void remove(OverlayNode& node) noexcept {
    State& slot = at(node.slot);
    for (OverlayNode* over = node.above; over != nullptr; over = over->above) over->stale = true;
    (node.above != nullptr ? node.above->below : slot.top) = node.below;
    if (node.below != nullptr) node.below->above = node.above;
    select(slot);
  }

  /// Makes the topmost overlays again that lost a term below them. No allocation; cost only where there are
  /// some.
  void refresh(kernels::Scratch scratch) noexcept {
    if (!any_stale_) return;
    for (State& slot : slots_) {
      if (slot.top == nullptr || !slot.top->stale) continue;
      merge_into(*slot.top, slot.top->below, scratch);
      slot.top->stale = false;
    }
    any_stale_ = false;
  }

 private:
  struct State {
    ActiveSlot active{};
    TensorView base{};
    OverlayNode* top = nullptr;
  };

  [[nodiscard]] State& at(std::int32_t slot) noexcept { return slots_[static_cast<std::size_t>(slot)]; }

  void select(State& slot) noexcept {
    slot.active.weight = slot.base;
    if (slot.top == nullptr) return;
    slot.active.weight = TensorView(slot.top->data, slot.base.dtype, slot.base.shape());
    any_stale_ = any_stale_ || slot.top->stale;
  }

  /// Terms in the order of attachment, the node's own last.
  void merge_into(OverlayNode& node, const OverlayNode* below, kernels::Scratch scratch) const noexcept {
    std::size_t count = 0;
    for (const OverlayNode* n = below; n != nullptr; n = n->below) count += n->terms.size();
    std::size_t end = count;
    for (const OverlayNode* n = below; n != nullptr; n = n->below) {
      end -= n->terms.size();
      for (std::size_t i = 0; i < n->terms.size(); ++i) node.gathered[end + i] = n->terms[i];
    }
    for (const kernels::LowRankTerm& term : node.terms) node.gathered[count++] = term;
    kernels::merge_low_rank(weight_matrix(slots_[static_cast<std::size_t>(node.slot)].base),
                            node.gathered.first(count), node.data, scratch);
  }

  std::vector<State> slots_;
  bool any_stale_ = false;
};

} // namespace tenon

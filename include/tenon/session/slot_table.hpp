// SPDX-License-Identifier: Apache-2.0
// What is attached, slot by slot. Side terms, changes of other kinds, of biases, and overlays are list nodes that live in their guard's memory,
// so taking one out needs no allocation, cannot fail and costs the same for every matrix. A slot computes
// with the topmost overlay, or with the model's weight. An overlay in place lies in the model's own bytes and
// is an overlay like the others; when the last of a slot goes, those bytes are copied from their source
// again. When an overlay under others goes (guards may end in any order), those above were made with its
// terms: they are marked, and made again from the source before the next forward pass.
#pragma once

#include <tenon/graph/program.hpp>
#include <tenon/graph/step.hpp>
#include <tenon/weights/file_handle.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <vector>

namespace tenon {

/// The source's weight + the terms of all merged guards up to this one.
struct OverlayNode {
  std::int32_t slot = 0;
  bool is_in_place = false; ///< its data are the model's own bytes of the weight
  bool is_stale = false;
  std::byte* data = nullptr;
  std::span<const kernels::LowRankTerm> terms{}; ///< of this guard
  std::span<kernels::LowRankTerm> gathered{};    ///< room for those of the overlays below as well
  std::span<const kernels::DeltaTerm> deltas{};  ///< of other kinds than LoRA
  std::span<kernels::DeltaTerm> gathered_deltas{};
  // where a device merges: the terms in its memory, and what its merge of the gathered ones takes
  std::span<const kernels::LowRankTerm> device_terms{};
  std::span<std::byte> device_room{};
  // where the host merges for a device: rows until they are uploaded, and the kernels' scratch
  std::span<std::byte> host_rows{};
  kernels::Scratch host_scratch{};
  OverlayNode* below = nullptr;
  OverlayNode* above = nullptr;

  /// Of a model on a device. Decided when its guard was planned: guards that end below it change nothing of that.
  [[nodiscard]] bool is_merged_by_host() const noexcept { return !host_rows.empty(); }
};

/// Copies a source's bytes over a weight again. Cannot fail: what goes wrong is told later.
struct WeightRestorer {
  void (*restore)(void* context, std::byte* weight, const TensorView& source) noexcept = nullptr;
  void* context = nullptr;
};

class SlotTable {
 public:
  /// `weights` and their `sources` by the program's numbering, loops expanded; the same views where the model
  /// maps its weights.
  SlotTable(const Program& program, std::span<const TensorView> weights, std::span<const TensorView> sources)
      : slots_(static_cast<std::size_t>(program.slot_count)) {
    for (const SlotEntry& entry : program.slots) {
      const WeightEntry& weight = program.weights[static_cast<std::size_t>(entry.weight)];
      for (std::int32_t copy = 0; copy < entry.copies; ++copy) {
        State& slot = at(entry.base + copy);
        slot.weight = slot.active.weight = flat(weights[static_cast<std::size_t>(weight.base + copy)], entry);
        slot.source = slot.active.base = flat(sources[static_cast<std::size_t>(weight.base + copy)], entry);
      }
    }
  }

  [[nodiscard]] const ActiveSlot& active(std::int32_t slot) const noexcept { return at(slot).active; }
  /// The model's weight, [out, in * kernel] for a convolution's: where a slot without overlays computes, and where one in place lies.
  [[nodiscard]] const TensorView& weight(std::int32_t slot) const noexcept { return at(slot).weight; }
  /// The pristine bytes of the weight, which nobody writes.
  [[nodiscard]] const TensorView& source(std::int32_t slot) const noexcept { return at(slot).source; }
  [[nodiscard]] const OverlayNode* top(std::int32_t slot) const noexcept { return at(slot).top; }

  void add(std::int32_t slot, SideTerm& term) noexcept { at(slot).active.terms.add(term); }
  void add(std::int32_t slot, SideDelta& delta) noexcept { at(slot).active.deltas.add(delta); }
  void add(std::int32_t slot, SideBias& bias) noexcept { at(slot).active.biases.add(bias); }
  void remove(std::int32_t slot, SideTerm& term) noexcept { at(slot).active.terms.remove(term); }
  void remove(std::int32_t slot, SideDelta& delta) noexcept { at(slot).active.deltas.remove(delta); }
  void remove(std::int32_t slot, SideBias& bias) noexcept { at(slot).active.biases.remove(bias); }

  /// All terms that `node` is made of, over the overlays from `below` down but for `skipped`: in the order of
  /// attachment, its own last.
  [[nodiscard]] static std::span<const kernels::LowRankTerm>
  gather(OverlayNode& node, const OverlayNode* below, const OverlayNode* skipped) noexcept {
    return gather_in(node.gathered, node, below, skipped, &OverlayNode::terms);
  }
  /// The same in a device's memory. Precondition: the host merges none of these overlays.
  [[nodiscard]] static std::span<const kernels::LowRankTerm>
  gather_on_device(OverlayNode& node, const OverlayNode* below, const OverlayNode* skipped) noexcept {
    return gather_in(node.gathered, node, below, skipped, &OverlayNode::device_terms);
  }
  /// The same for what is no LoRA.
  [[nodiscard]] static std::span<const kernels::DeltaTerm>
  gather_deltas(OverlayNode& node, const OverlayNode* below, const OverlayNode* skipped) noexcept {
    return gather_in(node.gathered_deltas, node, below, skipped, &OverlayNode::deltas);
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
    unlink(node);
    if (node.is_in_place) leave_weight(node.slot);
    select(at(node.slot));
  }
  /// `old` goes and `fresh`, whose bytes may lie in the same place, comes on top.
  void replace(OverlayNode& old, OverlayNode& fresh) noexcept {
    unlink(old);
    add(fresh);
  }
  /// An overlay in place no longer counts on the weight's bytes: the next one in place will be made again
  /// there, or else they are copied from the source.
  void leave_weight(std::int32_t index) noexcept {
    const State& slot = at(index);
    for (OverlayNode* next = slot.top; next != nullptr; next = next->below)
      if (next->is_in_place) {
        mark_stale(*next);
        return;
      }
    if (!has_sources_) return;
    at(index).is_written = false;
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): a model that owns its weights lent them to one session
    auto* const weight = const_cast<std::byte*>(slot.weight.data);
    if (restorer_.restore != nullptr)
      restorer_.restore(restorer_.context, weight, slot.source);
    else
      std::memcpy(weight, slot.source.data, static_cast<std::size_t>(slot.weight.bytes()));
    drop_pages({.data = slot.source.data, .bytes = static_cast<std::size_t>(slot.source.bytes())});
  }
  /// How weights are restored, if not by copying on the host.
  void restore_by(const WeightRestorer& restorer) noexcept { restorer_ = restorer; }
  /// Whether the model's weight has other bytes than its source.
  [[nodiscard]] bool is_written(std::int32_t slot) const noexcept { return at(slot).is_written; }
  void mark_written(std::int32_t slot) noexcept { at(slot).is_written = true; }
  /// Their bytes are no longer what they were: nothing is restored from them.
  void forget_sources() noexcept { has_sources_ = false; }
  /// Its bytes are no longer what its terms say.
  void mark_stale(OverlayNode& node) noexcept {
    node.is_stale = true;
    if (at(node.slot).top == &node) any_stale_ = true;
  }

  /// `write(node, below)` for the topmost overlays that must be made again. No allocation; cost only where
  /// there are some.
  template <class Write>
  void refresh(Write write) noexcept {
    if (!any_stale_) return;
    any_stale_ = false;
    for (State& slot : slots_) {
      if (slot.top == nullptr || !slot.top->is_stale) continue;
      slot.top->is_stale = !write(*slot.top, static_cast<const OverlayNode*>(slot.top->below));
      any_stale_ = any_stale_ || slot.top->is_stale;
    }
  }
  [[nodiscard]] bool any_stale() const noexcept { return any_stale_; }

 private:
  template <class Term>
  [[nodiscard]] static std::span<const Term> gather_in(std::span<Term> room, const OverlayNode& node,
                                                       const OverlayNode* below, const OverlayNode* skipped,
                                                       std::span<const Term> OverlayNode::* terms) noexcept {
    std::size_t count = 0;
    for (const OverlayNode* n = below; n != nullptr; n = n->below)
      if (n != skipped) count += (n->*terms).size();
    std::size_t end = count;
    for (const OverlayNode* n = below; n != nullptr; n = n->below) {
      if (n == skipped) continue;
      end -= (n->*terms).size();
      std::copy((n->*terms).begin(), (n->*terms).end(), room.begin() + static_cast<std::ptrdiff_t>(end));
    }
    for (const Term& term : node.*terms) room[count++] = term;
    return room.first(count);
  }

  struct State {
    ActiveSlot active{};
    TensorView weight{};
    TensorView source{};
    OverlayNode* top = nullptr;
    bool is_written = false;
  };

  [[nodiscard]] State& at(std::int32_t slot) noexcept { return slots_[static_cast<std::size_t>(slot)]; }
  [[nodiscard]] const State& at(std::int32_t slot) const noexcept {
    return slots_[static_cast<std::size_t>(slot)];
  }

  /// The same bytes as [out, in]; a convolution's weight has its kernel in `in`.
  [[nodiscard]] static TensorView flat(const TensorView& view, const SlotEntry& entry) noexcept {
    const std::array<std::int64_t, 2> extents{entry.out, entry.in};
    return {view.data, view.dtype, extents};
  }
  void unlink(OverlayNode& node) noexcept {
    for (OverlayNode* over = node.above; over != nullptr; over = over->above) over->is_stale = true;
    (node.above != nullptr ? node.above->below : at(node.slot).top) = node.below;
    if (node.below != nullptr) node.below->above = node.above;
  }
  void select(State& slot) noexcept {
    slot.active.weight = slot.weight;
    slot.active.is_pristine = slot.top == nullptr;
    if (slot.top == nullptr) return;
    slot.active.weight = TensorView(slot.top->data, slot.source.dtype, slot.source.shape());
    any_stale_ = any_stale_ || slot.top->is_stale;
  }

  std::vector<State> slots_;
  WeightRestorer restorer_{};
  bool any_stale_ = false;
  bool has_sources_ = true;
};

} // namespace tenon

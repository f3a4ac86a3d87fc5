// SPDX-License-Identifier: Apache-2.0
// What an adapter may change: the slots of a net, or the weights of a checkpoint whose architecture nobody has
// written down as a type. Both are a list of modules with the shape of their weight.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/formats/name_table.hpp>
#include <tenon/graph/slot.hpp>
#include <tenon/graph/tables.hpp>
#include <tenon/weights/checkpoint.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tenon {

/// One module's weight [out, in, kernel ...]; `rows` and `cols` are of the matrix it is taken as.
struct AdapterTarget {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t positions = 1; ///< of a convolution's kernel: cols = in * positions
  bool is_vector = false;     ///< of a norm
  std::uint32_t kinds = AnySlot::kinds;
  std::int64_t bias = 0;                    ///< elements of the module's bias; 0 if it has none
  const CheckpointTensor* weight = nullptr; ///< where the list is a checkpoint's
  const CheckpointTensor* bias_tensor = nullptr;

  [[nodiscard]] std::int64_t in() const noexcept { return cols / positions; }
};

struct AdapterTargets {
  NameTable names;
  std::vector<AdapterTarget> list{};

  [[nodiscard]] const AdapterTarget& at(std::int32_t module) const noexcept {
    return list[static_cast<std::size_t>(module)];
  }
  [[nodiscard]] const std::string& name(std::int32_t module) const noexcept {
    return names.names()[static_cast<std::size_t>(module)];
  }
};

/// A net's slots, loops expanded, in their order.
[[nodiscard]] TENON_INLINE AdapterTargets targets_of(const Program& program);

#if TENON_HAS_BODIES
TENON_INLINE AdapterTargets targets_of(const Program& program) {
  std::vector<std::string> names;
  std::vector<AdapterTarget> list;
  const auto count = static_cast<std::size_t>(program.slot_count);
  names.reserve(count);
  list.reserve(count);
  for (const SlotEntry& slot : program.slots)
    for (std::int32_t copy = 0; copy < slot.copies; ++copy) {
      names.push_back(expanded_path(program, slot.path, slot.loop, copy));
      list.push_back({.rows = slot.out,
                      .cols = slot.in,
                      .positions = slot.positions,
                      .is_vector = program.weights[static_cast<std::size_t>(slot.weight)].rank == 1,
                      .kinds = slot.kinds,
                      .bias = slot.bias == no_index ? 0 : slot.out});
    }
  std::vector<NameList::Entry> declared; // part and parts: their order, and that they belong together
  for (const SliceEntry& slice : program.slices) {
    const SlotEntry& slot = program.slots[static_cast<std::size_t>(slice.slot)];
    const auto& [first, size, total, is_of_fused, of_inputs] = slice.range;
    for (std::int32_t copy = 0; copy < slot.copies; ++copy)
      declared.push_back({expanded_path(program, slice.path, slot.loop, copy),
                          {.module = slot.base + copy,
                           .share = of_inputs ? NameShare::columns : NameShare::part,
                           .is_fused = is_of_fused,
                           .part = static_cast<std::int32_t>(first),
                           .parts = static_cast<std::int32_t>(total),
                           .slice = {first, size, total}}});
  }
  return {NameTable(std::move(names), std::move(declared)), std::move(list)};
}
#endif

/// Every `<module>.weight` of a checkpoint, and every `<module>.bias` beside it.
[[nodiscard]] TENON_INLINE AdapterTargets targets_of(const Checkpoint& checkpoint);

#if TENON_HAS_BODIES
TENON_INLINE AdapterTargets targets_of(const Checkpoint& checkpoint) {
  constexpr std::string_view ending = ".weight";
  std::vector<std::string> names;
  std::vector<AdapterTarget> list;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    if (!tensor.name.ends_with(ending) || tensor.name.size() == ending.size() || tensor.view.rank == 0)
      continue;
    const std::string module(tensor.name.substr(0, tensor.name.size() - ending.size()));
    AdapterTarget target{.rows = tensor.view.extent(0), .weight = &tensor};
    target.cols = target.rows == 0 ? 0 : tensor.view.size() / target.rows;
    target.is_vector = tensor.view.rank == 1;
    for (int axis = 2; axis < tensor.view.rank; ++axis) target.positions *= tensor.view.extent(axis);
    if (const CheckpointTensor* const bias = checkpoint.find(concat(module, ".bias"))) {
      target.bias = bias->view.size();
      target.bias_tensor = bias;
    }
    names.push_back(module);
    list.push_back(target);
  }
  return {NameTable(std::move(names)), std::move(list)};
}
#endif

} // namespace tenon

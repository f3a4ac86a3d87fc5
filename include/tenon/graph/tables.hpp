// SPDX-License-Identifier: Apache-2.0
// What a graph type tells at compile time: its slots, its weights, its parameters, the shape it gives, the
// bytes its activations and an adapter of known rank will need. All usable in a static_assert; nothing here
// opens a file.
#pragma once

#include <tenon/core/units.hpp>
#include <tenon/graph/lower.hpp>
#include <tenon/graph/plan.hpp>

#include <array>
#include <string>

namespace tenon {

/// A slot as a reader wants it: `path` has `*` for the index of each Repeat around it, `copies` is their
/// product. A convolution's weight is taken as a matrix: in = channels * positions of its kernel.
struct SlotInfo {
  std::string_view path;
  std::int64_t out;
  std::int64_t in;
  std::uint32_t kinds;
  std::int64_t copies;
  std::int64_t positions;
};

/// A tensor of the checkpoint, `[out, in]` where it is a matrix.
struct WeightInfo {
  std::string_view path;
  std::span<const std::int64_t> shape;
  std::int64_t copies;
};

/// Slots, Repeats expanded.
template <class Net>
inline constexpr std::int64_t slot_count = program_of<Net>().slot_count;

/// Tensors the checkpoint must have, Repeats expanded.
template <class Net>
inline constexpr std::int64_t weight_count = program_of<Net>().weight_count;

/// The table of slots, one row for all copies of a repeated one.
template <class Net>
inline constexpr auto slots = [] {
  constexpr const Program& p = program_of<Net>();
  std::array<SlotInfo, p.slots.size()> table{};
  for (std::size_t i = 0; i < p.slots.size(); ++i) {
    const SlotEntry& s = p.slots[i];
    table[i] = {p.text_of(s.path), s.out, s.in, s.kinds, s.copies, s.positions};
  }
  return table;
}();

/// The table of weights, one row for all copies of a repeated one.
template <class Net>
inline constexpr auto weights = [] {
  constexpr const Program& p = program_of<Net>();
  std::array<WeightInfo, p.weights.size()> table{};
  for (std::size_t i = 0; i < p.weights.size(); ++i)
    table[i] = {p.text_of(p.weights[i].path), p.weights[i].shape(), p.weights[i].copies};
  return table;
}();

/// Elements of all weights.
template <class Net>
inline constexpr std::int64_t parameter_count = [] {
  std::int64_t n = 0;
  for (const WeightEntry& w : program_of<Net>().weights) n += w.size() * w.copies;
  return n;
}();

/// The shape the net gives (of its first output), dynamic dimensions by name.
template <class Net>
inline constexpr Shape output_shape =
    program_of<Net>().wires[static_cast<std::size_t>(program_of<Net>().outputs[0])].shape;

/// Bytes of workspace that a session holds for these dimensions: the activation plan's total.
template <class Net>
[[nodiscard]] constexpr std::int64_t activation_bytes(const Dims& dims) {
  constexpr const Program& p = program_of<Net>();
  PlanArrays<p.wires.size()> arrays;
  return plan_buffers(p, dims, arrays.room());
}

/// Parameters of an adapter of kind `Kind` on every slot of `Net` that accepts it: rank * (out + in) each.
template <class Net, class Kind>
[[nodiscard]] constexpr std::int64_t adapter_parameters() {
  static_assert(Kind::rank != any_rank,
                "tenon: the size of an adapter is known at compile time only for a fixed rank");
  std::int64_t n = 0;
  for (const SlotEntry& slot : program_of<Net>().slots)
    if (slot_accepts(slot.kinds, Kind::kind)) n += Kind::rank * (slot.out + slot.in) * slot.copies;
  return n;
}

/// The same in bytes, for factors of element type `dtype`.
template <class Net, class Kind>
[[nodiscard]] constexpr std::int64_t adapter_bytes(DType dtype) {
  return adapter_parameters<Net, Kind>() * dtype_bytes(dtype);
}

/// The slot with this full path, loops expanded, or -1. Also at compile time:
/// `static_assert(find_slot(program_of<Net>(), "encoder.layer.3.attention.self.query") >= 0)`.
[[nodiscard]] constexpr std::int32_t find_slot(const Program& program, std::string_view path) noexcept {
  for (const SlotEntry& slot : program.slots)
    if (const std::int64_t copy = copy_named(program, slot.path, slot.loop, path); copy >= 0)
      return slot.base + static_cast<std::int32_t>(copy);
  return -1;
}

/// The full path of slot `index` (0 ... slot_count - 1).
[[nodiscard]] inline std::string slot_path(const Program& program, std::int64_t index) {
  for (const SlotEntry& slot : program.slots)
    if (index >= slot.base && index < slot.base + slot.copies)
      return expanded_path(program, slot.path, slot.loop, index - slot.base);
  return {};
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// From the steps of a program, when each wire's buffer is taken and free again, in constant evaluation. What a loop
// carries lives as long as the loop; what is made before a loop and read inside it is read again by the next
// iteration. Cost: linear in steps and wires.
#pragma once

#include <tenon/graph/program_tables.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tenon {

/// A step reads or writes wire `id`.
constexpr void use_wire(const ProgramTables& tables, WireId id, std::int32_t step) {
  if (id == no_index) return;
  Wire& wire = tables.wires[id];
  const auto live_until = [&wire](std::int32_t last) {
    if (wire.last < last) wire.last = last;
  };
  live_until(step);
  for (std::int32_t l = tables.steps[step].loop; l != no_index; l = tables.loops[l].parent)
    if (wire.first < tables.loops[l].begin) live_until(tables.loops[l].end);
}

/// The wires that need a buffer by the step that takes it: a counting sort.
constexpr void order_wires_by_first(const ProgramTables& tables, const ProgramSizes& sizes) {
  std::vector<std::size_t> start(sizes.steps + 1, 0);
  const auto first = [&](std::size_t wire) { return static_cast<std::size_t>(tables.wires[wire].first); };
  for (std::size_t w = 0; w < sizes.wires; ++w)
    if (tables.wires[w].kind != WireKind::input) ++start[first(w) + 1];
  for (std::size_t s = 1; s < start.size(); ++s) start[s] += start[s - 1];
  for (std::size_t w = 0; w < sizes.wires; ++w)
    if (tables.wires[w].kind != WireKind::input) tables.by_first[start[first(w)]++] = static_cast<WireId>(w);
}

/// Fills `first` and `last` of all wires, and `by_first`. Precondition: everything else is there.
constexpr void find_lifetimes(const ProgramTables& tables, const ProgramSizes& sizes) {
  for (std::int32_t s = 0; s < static_cast<std::int32_t>(sizes.steps); ++s) {
    for (const WireId wire : tables.steps[s].inputs) use_wire(tables, wire, s);
    use_wire(tables, tables.steps[s].output, s);
  }
  for (std::size_t l = 0; l < sizes.loops; ++l) {
    const Loop& loop = tables.loops[l];
    for (std::size_t i = 0; i < max_loop_carries && loop.carries[i] != no_index; ++i) {
      Wire& carry = tables.wires[loop.carries[i]];
      Wire& result = tables.wires[loop.results[i]];
      if (carry.last < loop.end) carry.last = loop.end;
      if (result.first > loop.begin) result.first = loop.begin;
      if (result.last < loop.end) result.last = loop.end;
    }
  }
  for (std::size_t i = 0; i < sizes.outputs; ++i)
    tables.wires[tables.outputs[i]].last = static_cast<std::int32_t>(sizes.steps);
  order_wires_by_first(tables, sizes);
}

} // namespace tenon

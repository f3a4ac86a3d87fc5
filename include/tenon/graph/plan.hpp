// SPDX-License-Identifier: Apache-2.0
// The activation plan: from the wires' lifetimes, an offset in one workspace for each. First fit in the order
// in which buffers are taken; a wire may take over the buffer of one that ends in the same step. The same
// function runs in a static_assert and in a session, so the bytes promised are the bytes used. Cost: O(wires
// x wires alive at once), no allocation.
#pragma once

#include <tenon/graph/program.hpp>

#include <cstdint>
#include <span>

namespace tenon {

/// Buffers start on cache lines.
inline constexpr std::int64_t wire_alignment = 64;

[[nodiscard]] constexpr std::int64_t buffer_bytes(const Wire& wire, const Dims& dims) noexcept {
  return (wire.shape.bytes(dims) + wire_alignment - 1) / wire_alignment * wire_alignment;
}

/// Fills `offsets` (one per wire; inputs get none) and returns the workspace's bytes.
/// `alive` is room for as many wires as `program.by_first` has.
[[nodiscard]] constexpr std::int64_t plan_buffers(const Program& program, const Dims& dims,
                                                  std::span<std::int64_t> offsets, std::span<WireId> alive) {
  const auto wire_of = [&](WireId id) -> const Wire& { return program.wires[static_cast<std::size_t>(id)]; };
  const auto offset_of = [&](WireId id) -> std::int64_t& { return offsets[static_cast<std::size_t>(id)]; };
  std::size_t count = 0; // wires alive, by ascending offset
  std::int64_t total = 0;
  for (const WireId id : program.by_first) {
    const Wire& wire = wire_of(id);
    const std::int64_t bytes = buffer_bytes(wire, dims);

    std::size_t kept = 0;
    for (std::size_t i = 0; i < count; ++i)
      if (wire_of(alive[i]).last >= wire.first) alive[kept++] = alive[i];
    count = kept;

    const Step& step = program.steps[static_cast<std::size_t>(wire.first)];
    if (step.in_place && step.output == id && step.inputs[0] != no_index) {
      const WireId source = step.inputs[0];
      const Wire& from = wire_of(source);
      if (from.kind != WireKind::input && from.last == wire.first && buffer_bytes(from, dims) == bytes) {
        offset_of(id) = offset_of(source);
        for (std::size_t i = 0; i < count; ++i)
          if (alive[i] == source) alive[i] = id;
        continue;
      }
    }

    std::int64_t offset = 0;
    std::size_t place = 0;
    for (; place < count && offset + bytes > offset_of(alive[place]); ++place) {
      const std::int64_t end = offset_of(alive[place]) + buffer_bytes(wire_of(alive[place]), dims);
      if (end > offset) offset = end;
    }
    for (std::size_t i = count; i > place; --i) alive[i] = alive[i - 1];
    alive[place] = id;
    ++count;
    offset_of(id) = offset;
    if (offset + bytes > total) total = offset + bytes;
  }
  return total;
}

} // namespace tenon

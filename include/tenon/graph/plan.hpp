// SPDX-License-Identifier: Apache-2.0
// The activation plan: from the wires' lifetimes, an offset in one workspace for each. First fit in the order
// in which buffers are taken; where that leaves gaps, first fit of the largest first. A wire may take over the buffer of
// one that ends in the same step. The same function runs in a static_assert and in a session, so the bytes promised are
// the bytes used. Cost: O(wires x wires alive at once), or O(wires^2); no allocation.
#pragma once

#include <tenon/graph/program.hpp>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace tenon {

/// Buffers start on cache lines.
inline constexpr std::int64_t wire_alignment = 64;

[[nodiscard]] constexpr std::int64_t buffer_bytes(const Wire& wire, const Dims& dims) noexcept {
  return (wire.shape.bytes(dims) + wire_alignment - 1) / wire_alignment * wire_alignment;
}

/// The input whose buffer wire `id` takes over: one that ends in the step that makes it, if that step can write over it
/// and the bytes are as many. `no_index` if there is none.
[[nodiscard]] constexpr WireId overwritten_input(const Program& program, WireId id,
                                                 const Dims& dims) noexcept {
  const Wire& wire = program.wires[static_cast<std::size_t>(id)];
  const Step& step = program.steps[static_cast<std::size_t>(wire.first)];
  if (step.output != id) return no_index;
  for (int i = 0; i < step.in_place && step.inputs[static_cast<std::size_t>(i)] != no_index; ++i) {
    const WireId source = step.inputs[static_cast<std::size_t>(i)];
    const Wire& from = program.wires[static_cast<std::size_t>(source)];
    if (from.kind != WireKind::input && from.last == wire.first &&
        buffer_bytes(from, dims) == buffer_bytes(wire, dims))
      return source;
  }
  return no_index;
}

/// What planning works in; each as long as the program has wires.
struct PlanRoom {
  std::span<std::int64_t> offsets; ///< the result; inputs get none
  std::span<std::int64_t> others;  ///< of the second attempt
  std::span<std::int64_t> bytes;   ///< of each wire; filled by the first attempt
  std::span<WireId> order;
  std::span<WireId> heads;      ///< of each wire the first whose buffer it took over
  std::span<std::int32_t> ends; ///< of each head the step in which the last that took its buffer over ends
};

struct PlanBytes {
  std::int64_t total = 0;
  std::int64_t alive = 0; ///< the most bytes of wires alive at once: no plan can need less
};

/// First fit in the order in which buffers are taken.
[[nodiscard]] constexpr PlanBytes plan_in_order(const Program& program, const Dims& dims,
                                                const PlanRoom& room) {
  const auto wire_of = [&](WireId id) -> const Wire& { return program.wires[static_cast<std::size_t>(id)]; };
  const auto offset_of = [&](WireId id) -> std::int64_t& {
    return room.offsets[static_cast<std::size_t>(id)];
  };
  const std::span<WireId> alive = room.order; // by ascending offset
  std::size_t count = 0;
  PlanBytes out;
  std::int64_t sum = 0;
  for (const WireId id : program.by_first) {
    const Wire& wire = wire_of(id);
    const std::int64_t bytes = buffer_bytes(wire, dims);
    room.bytes[static_cast<std::size_t>(id)] = bytes;

    std::size_t kept = 0;
    for (std::size_t i = 0; i < count; ++i)
      if (wire_of(alive[i]).last >= wire.first)
        alive[kept++] = alive[i];
      else
        sum -= room.bytes[static_cast<std::size_t>(alive[i])];
    count = kept;

    const WireId source = overwritten_input(program, id, dims);
    if (source != no_index) {
      offset_of(id) = offset_of(source);
      for (std::size_t i = 0; i < count; ++i)
        if (alive[i] == source) alive[i] = id;
      continue;
    }

    std::int64_t offset = 0;
    std::size_t place = 0;
    for (; place < count && offset + bytes > offset_of(alive[place]); ++place) {
      const std::int64_t end = offset_of(alive[place]) + room.bytes[static_cast<std::size_t>(alive[place])];
      if (end > offset) offset = end;
    }
    for (std::size_t i = count; i > place; --i) alive[i] = alive[i - 1];
    alive[place] = id;
    ++count;
    offset_of(id) = offset;
    sum += bytes;
    if (sum > out.alive) out.alive = sum;
    if (offset + bytes > out.total) out.total = offset + bytes;
  }
  return out;
}

/// First fit of the largest buffers first, whenever they are taken, after `plan_in_order`: fills `others` and returns
/// the bytes. On bare pointers: a compiler that evaluates it counts every call against its limit.
[[nodiscard]] constexpr std::int64_t plan_largest_first(const Program& program, const Dims& dims,
                                                        const PlanRoom& room) {
  const Wire* const wires = program.wires.data();
  std::int64_t* const offsets = room.others.data();
  const std::int64_t* const bytes = room.bytes.data();
  WireId* const order = room.order.data();
  std::int32_t* const ends = room.ends.data();
  std::size_t count = 0;
  for (const WireId id : program.by_first) {
    const WireId source = overwritten_input(program, id, dims);
    const WireId head = source == no_index ? id : room.heads[static_cast<std::size_t>(source)];
    room.heads[static_cast<std::size_t>(id)] = head;
    ends[head] = wires[id].last;
    if (source != no_index) continue;
    std::size_t place = count++; // the order is by bytes, the largest first
    for (; place > 0 && bytes[order[place - 1]] < bytes[id]; --place) order[place] = order[place - 1];
    order[place] = id;
  }
  std::int64_t total = 0;
  for (std::size_t n = 0; n < count; ++n) { // those before n are placed, by ascending offset
    const WireId id = order[n];
    const std::int64_t size = bytes[id];
    const std::int32_t first = wires[id].first;
    const std::int32_t last = ends[id];
    std::int64_t offset = 0;
    for (std::size_t p = 0; p < n; ++p) {
      const WireId other = order[p];
      if (wires[other].first > last || first > ends[other]) continue;
      if (offset + size <= offsets[other]) break;
      if (const std::int64_t end = offsets[other] + bytes[other]; end > offset) offset = end;
    }
    offsets[id] = offset;
    std::size_t place = n;
    for (; place > 0 && offsets[order[place - 1]] > offset; --place) order[place] = order[place - 1];
    order[place] = id;
    if (offset + size > total) total = offset + size;
  }
  for (const WireId id : program.by_first) offsets[id] = offsets[room.heads[static_cast<std::size_t>(id)]];
  return total;
}

/// Lays the wires out and returns the workspace's bytes.
[[nodiscard]] constexpr std::int64_t plan_buffers(const Program& program, const Dims& dims,
                                                  const PlanRoom& room) {
  const PlanBytes first = plan_in_order(program, dims, room);
  if (first.total <= first.alive + first.alive / 20) return first.total;
  const std::int64_t second = plan_largest_first(program, dims, room);
  if (second >= first.total) return first.total;
  for (const WireId id : program.by_first)
    room.offsets[static_cast<std::size_t>(id)] = room.others[static_cast<std::size_t>(id)];
  return second;
}

/// Room for planning a program of `Wires` wires, in constant evaluation.
template <std::size_t Wires>
struct PlanArrays {
  std::array<std::int64_t, Wires> offsets{};
  std::array<std::int64_t, Wires> others{};
  std::array<std::int64_t, Wires> bytes{};
  std::array<WireId, Wires> order{};
  std::array<WireId, Wires> heads{};
  std::array<std::int32_t, Wires> ends{};

  [[nodiscard]] constexpr PlanRoom room() noexcept { return {offsets, others, bytes, order, heads, ends}; }
};
/// The same for any program.
struct PlanVectors {
  explicit PlanVectors(const Program& program)
      : offsets(program.wires.size()), others(program.wires.size()), bytes(program.wires.size()),
        order(program.wires.size()), heads(program.wires.size()), ends(program.wires.size()) {}

  std::vector<std::int64_t> offsets;
  std::vector<std::int64_t> others;
  std::vector<std::int64_t> bytes;
  std::vector<WireId> order;
  std::vector<WireId> heads;
  std::vector<std::int32_t> ends;

  [[nodiscard]] PlanRoom room() noexcept { return {offsets, others, bytes, order, heads, ends}; }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// A plan of buffers checked by brute force: no two wires that are alive together share bytes, and the bytes are compared
// with the least that any plan could do with.
#pragma once

#include <doctest/doctest.h>

#include <tenon/graph/plan.hpp>
#include <tenon/graph/tables.hpp>

#include <algorithm>
#include <vector>

namespace tenon::test {

struct PlanCheck {
  std::int64_t bytes = 0;
  std::int64_t alive_at_once =
      0; ///< the most bytes of wires that are alive in one step: no plan can need less
};

/// Lays the net out and compares every pair of wires that are alive together.
[[nodiscard]] inline PlanCheck check_plan(const Program& program, const Dims& dims) {
  PlanVectors vectors(program);
  const std::vector<std::int64_t>& offsets = vectors.offsets;
  PlanCheck out{.bytes = plan_buffers(program, dims, vectors.room())};
  const auto wire = [&](WireId id) -> const Wire& { return program.wires[static_cast<std::size_t>(id)]; };
  for (const WireId a : program.by_first) {
    const std::int64_t begin = offsets[static_cast<std::size_t>(a)];
    const std::int64_t end = begin + buffer_bytes(wire(a), dims);
    CHECK(begin % wire_alignment == 0);
    CHECK(end <= out.bytes);
    for (const WireId b : program.by_first) {
      if (a >= b || wire(a).first > wire(b).last || wire(b).first > wire(a).last) continue;
      if (overwritten_input(program, a, dims) == b || overwritten_input(program, b, dims) == a) continue;
      const std::int64_t other = offsets[static_cast<std::size_t>(b)];
      CHECK((end <= other || other + buffer_bytes(wire(b), dims) <= begin));
    }
  }
  for (std::int32_t step = 0; step <= std::ssize(program.steps); ++step) {
    std::int64_t sum = 0;
    for (const WireId a : program.by_first) {
      if (wire(a).first > step || wire(a).last < step) continue;
      const bool is_taken_over = std::ranges::any_of(program.by_first, [&](WireId b) {
        return wire(b).first == step && overwritten_input(program, b, dims) == a;
      });
      if (!is_taken_over) sum += buffer_bytes(wire(a), dims);
    }
    out.alive_at_once = std::max(out.alive_at_once, sum);
  }
  return out;
}

/// The plan of `Net` is what sessions take, and within 1.10 times the least possible. `mebibytes`: what the docs say it
/// takes, rounded; negative where they say nothing.
template <class Net>
void check_plan_of(const Dims& dims, std::int64_t mebibytes = -1) {
  const PlanCheck plan = check_plan(program_of<Net>(), dims);
  CHECK(plan.bytes == activation_bytes<Net>(dims));
  CHECK(plan.bytes >= plan.alive_at_once);
  if (mebibytes >= 0) CHECK((plan.bytes + MiB / 2) / MiB == mebibytes);
  CHECK(static_cast<double>(plan.bytes) <= 1.10 * static_cast<double>(plan.alive_at_once));
}

} // namespace tenon::test

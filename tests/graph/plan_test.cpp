// SPDX-License-Identifier: Apache-2.0
#include "support/nets.hpp"

#include <tenon/models/bert.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

/// Whether `later` took over the buffer of `earlier` in the step where that one ended.
bool took_over(const Program& program, WireId later, WireId earlier) {
  const Wire& wire = program.wires[static_cast<std::size_t>(later)];
  const Step& step = program.steps[static_cast<std::size_t>(wire.first)];
  return step.in_place && step.output == later && step.inputs[0] == earlier &&
         program.wires[static_cast<std::size_t>(earlier)].last == wire.first;
}

struct Check {
  std::int64_t bytes = 0;
  std::int64_t alive_at_once =
      0; ///< the most bytes of wires that are alive in one step: no plan can need less
};

/// Lays the net out and compares every pair of wires that are alive together.
Check check_plan(const Program& program, const Dims& dims) {
  std::vector<std::int64_t> offsets(program.wires.size());
  std::vector<WireId> alive(program.by_first.size());
  Check out{.bytes = plan_buffers(program, dims, offsets, alive)};
  const auto wire = [&](WireId id) -> const Wire& { return program.wires[static_cast<std::size_t>(id)]; };
  for (const WireId a : program.by_first) {
    const std::int64_t begin = offsets[static_cast<std::size_t>(a)];
    const std::int64_t end = begin + buffer_bytes(wire(a), dims);
    CHECK(begin % wire_alignment == 0);
    CHECK(end <= out.bytes);
    for (const WireId b : program.by_first) {
      if (a >= b || wire(a).first > wire(b).last || wire(b).first > wire(a).last) continue;
      if (took_over(program, a, b) || took_over(program, b, a)) continue;
      const std::int64_t other = offsets[static_cast<std::size_t>(b)];
      CHECK((end <= other || other + buffer_bytes(wire(b), dims) <= begin));
    }
  }
  for (std::int32_t step = 0; step <= std::ssize(program.steps); ++step) {
    std::int64_t sum = 0;
    for (const WireId a : program.by_first) {
      if (wire(a).first > step || wire(a).last < step) continue;
      const bool is_taken_over = std::ranges::any_of(
          program.by_first, [&](WireId b) { return wire(b).first == step && took_over(program, b, a); });
      if (!is_taken_over) sum += buffer_bytes(wire(a), dims);
    }
    out.alive_at_once = std::max(out.alive_at_once, sum);
  }
  return out;
}

} // namespace

TEST_CASE("Wires that are alive together never share bytes and the plan is near the least possible") {
  const auto check = []<class Net>() {
    for (const Dims& dims : {Dims{1, 1}, Dims{1, 256}, Dims{7, 13}, Dims{32, 3}}) {
      const Check plan = check_plan(program_of<Net>(), dims);
      CHECK(plan.bytes == activation_bytes<Net>(dims));
      CHECK(plan.bytes >= plan.alive_at_once);
      CHECK(static_cast<double>(plan.bytes) <= 1.10 * static_cast<double>(plan.alive_at_once));
    }
  };
  check.operator()<Mlp>();
  check.operator()<Encoder<8, 2>>();
  check.operator()<Nested<2, 3>>();
  check.operator()<models::MiniLM>();
}

TEST_CASE("An activation in place costs no second buffer") {
  // up's output [t, 10] is written over by the Gelu; beside it only down's output [t, 6] is alive.
  static_assert(activation_bytes<Mlp>({.tokens = 64}) == 64 * 4 * (10 + 6));
}

TEST_CASE("The encoder of the design page plans under 4 MiB for 256 tokens") {
  static_assert(activation_bytes<models::BertEncoder<models::minilm_l6>>({.tokens = 256}) <= 4 * MiB);
}

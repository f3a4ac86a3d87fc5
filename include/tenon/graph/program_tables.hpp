// SPDX-License-Identifier: Apache-2.0
// What stands between an op's `lower` and the Program: the description of one step, and the tables that a builder
// counts first and then fills.
#pragma once

#include <tenon/graph/program.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tenon {

/// Up to N indices, the rest `no_index`. (An initializer_list member would dangle in constant evaluation.)
template <std::size_t N>
struct IdList {
  std::array<std::int32_t, N> ids{};

  template <std::same_as<std::int32_t>... Given>
    requires(sizeof...(Given) <= N)
  // NOLINTNEXTLINE(google-explicit-constructor): `.inputs = {a, b}` must read as a list
  constexpr IdList(Given... given) {
    ids.fill(no_index);
    std::size_t n = 0;
    ((ids[n++] = given), ...);
  }
};

/// What an op's `lower` says about one step. Unused members may be left out.
struct StepSpec {
  std::string_view op{};
  StepFunction run = nullptr;
  ScratchFunction scratch = nullptr;
  IdList<max_step_inputs> inputs{};
  Shape output{};
  IdList<max_step_temporaries> temporaries{}; ///< from `temporary`
  IdList<max_step_weights> weights{};
  std::int32_t slot = no_index;
  std::int32_t state = no_index;
  StepParams params{};
  int in_place = 0; ///< the step may write over its first input (1), or over either of its first two (2)
};

/// How many rows each table of a program has.
struct ProgramSizes {
  std::size_t steps = 0, wires = 0, weights = 0, slots = 0, slices = 0, states = 0, loops = 0, inputs = 0,
              outputs = 0, by_first = 0, text = 0;
  std::int32_t weight_count = 0; ///< loops expanded
  std::int32_t slot_count = 0;
  std::int32_t state_count = 0;
};

/// Where a builder writes; `lower.hpp` owns the arrays.
struct ProgramTables {
  Step* steps = nullptr;
  Wire* wires = nullptr;
  WeightEntry* weights = nullptr;
  SlotEntry* slots = nullptr;
  SliceEntry* slices = nullptr;
  StateEntry* states = nullptr;
  Loop* loops = nullptr;
  WireId* inputs = nullptr;
  WireId* outputs = nullptr;
  WireId* by_first = nullptr;
  char* text = nullptr;
};

} // namespace tenon

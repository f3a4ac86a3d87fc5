// SPDX-License-Identifier: Apache-2.0
// Running a check with each set of instructions that this processor has.
#pragma once

#include <tenon/kernels/vector_kernels.hpp>

namespace tenon::test {

template <class F>
void for_each_instruction_set(F f) {
  const auto best = static_cast<int>(kernels::best_instruction_set(cpu_features()));
  for (int set = 0; set <= best; ++set) f(kernels::vector_kernels(static_cast<kernels::InstructionSet>(set)));
}

} // namespace tenon::test

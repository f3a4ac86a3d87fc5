// SPDX-License-Identifier: Apache-2.0
// How often a long test repeats: TENON_CYCLES, where it is set, for machines and sanitizers that are slow.
#pragma once

#include <cstdlib>

namespace tenon::test {

[[nodiscard]] inline int cycles(int normally) {
  const char* const text = std::getenv("TENON_CYCLES");
  return text == nullptr ? normally : std::atoi(text);
}

} // namespace tenon::test

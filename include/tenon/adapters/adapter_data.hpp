// SPDX-License-Identifier: Apache-2.0
// An adapter as it lies in memory: the mapping of its file and, for each slot it changes, views of A and B
// with their scale. Nothing is copied. It is immutable once loaded; handles and guards share it.
#pragma once

#include <tenon/adapters/report.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/weights/checkpoint.hpp>

#include <cstdint>
#include <vector>

namespace tenon {

/// `delta = scale * B A` for one slot; A [rank, in], B [out, rank].
struct SlotFactors {
  std::int32_t slot = 0; ///< index among the net's slots, loops expanded
  kernels::WeightMatrix a;
  kernels::WeightMatrix b;
  double scale = 1;
};

struct AdapterData {
  Checkpoint file;
  std::vector<SlotFactors> factors{}; ///< by ascending slot
  AdapterReport report{};
};

} // namespace tenon

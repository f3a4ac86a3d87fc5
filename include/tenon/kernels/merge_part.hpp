// SPDX-License-Identifier: Apache-2.0
// Merging some rows of a weight, so that threads can share it, and what such a call tells.
#pragma once

#include <tenon/kernels/merge_loss.hpp>

#include <cstdint>

namespace tenon::kernels {

struct MergePart {
  std::int64_t first_row = 0; ///< of the base and of `out`, in the terms' B
  MergeLoss* loss = nullptr;  ///< what the rounding lost is added to it, in the same pass and the same bytes
};

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// Merging some rows of a weight, so that threads can share it, what such a call tells, and where its rows go.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/merge_loss.hpp>

#include <cstddef>
#include <cstdint>

namespace tenon::kernels {

struct MergePart {
  std::int64_t first_row = 0; ///< of the base and of `out`, in the terms' B
  MergeLoss* loss = nullptr;  ///< what the rounding lost is added to it, in the same pass and the same bytes
};

/// Rows of merged weights, of the base's type.
struct MergedRows {
  std::byte* data = nullptr;
  std::int64_t stride = 0; ///< bytes from one row to the next
  Matrix sums{}; ///< gets what was added to each weight, whole panels of it; or without data, nothing does
  /// Whether they go past the caches, which they would only empty: then they are f32, `data` and `stride` whole lines of
  /// 64 bytes.
  bool streams = false;
};

/// A product of pairs of bfloat16, and what it is multiplied by.
struct PairProduct {
  float scale;
  std::int64_t pairs;
};

} // namespace tenon::kernels

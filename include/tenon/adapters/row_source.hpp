// SPDX-License-Identifier: Apache-2.0
// A matrix that is never held: its rows are made when they are asked for. This is how a delta of any kind, or the
// difference of two checkpoints, goes into a decomposition in tiles. Cost: what its function costs, once for
// each pass over the matrix. Threads: one at a time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tenon {

/// `fill(context, first, count, out)` writes rows [first, first + count) of a [rows, cols] matrix to `out`,
/// row-major, without gaps. It must give the same values each time. What it throws goes through.
struct RowSource {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  void (*fill)(const void* context, std::int64_t first, std::int64_t count, float* out) = nullptr;
  const void* context = nullptr;

  /// Rows asked for together: about a MiB of floats.
  [[nodiscard]] std::int64_t tile_rows() const noexcept {
    return std::clamp(std::int64_t{256 * 1024} / std::max(cols, std::int64_t{1}), std::int64_t{1},
                      std::max(rows, std::int64_t{1}));
  }
};

/// The rows that `f(first, count, out)` writes. `f` must outlive the source.
template <class F>
[[nodiscard]] RowSource row_source(std::int64_t rows, std::int64_t cols, const F& f) noexcept {
  return {rows, cols,
          [](const void* context, std::int64_t first, std::int64_t count, float* out) {
            (*static_cast<const F*>(context))(first, count, out);
          },
          &f};
}

} // namespace tenon

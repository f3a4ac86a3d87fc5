// SPDX-License-Identifier: Apache-2.0
// Writing one overlay: the source's weight and all terms, in one pass, a band of rows after the other so that
// somebody can watch, and the pages of the source can be let go as the pass moves on. Threads share a band.
// Neither bands nor threads change a bit of the result. Allocates nothing.
#pragma once

#include <tenon/kernels/merge.hpp>
#include <tenon/kernels/workers.hpp>
#include <tenon/session/slot_table.hpp>
#include <tenon/weights/file_handle.hpp>

#include <algorithm>
#include <cstdint>

namespace tenon {

inline constexpr std::int64_t overlay_band_bytes = std::int64_t{64} * 1024 * 1024;

/// Writes the terms of `node`, over the overlays from `below` down but for `skipped`, to its data. `after_band(bytes)` is called
/// after each band; what it throws goes through, and the rest is then not written.
template <class AfterBand>
void write_overlay(const SlotTable& slots, OverlayNode& node, const OverlayNode* below,
                   const OverlayNode* skipped, const kernels::Workers& workers, bool drops_source_pages,
                   AfterBand after_band) {
  const TensorView& source = slots.source(node.slot);
  const kernels::WeightMatrix base = weight_matrix(source);
  const auto terms = SlotTable::gather(node, below, skipped);
  const std::int64_t row_bytes = base.cols * dtype_bytes(base.dtype);
  const std::int64_t row_flops = 2 * base.cols * (kernels::total_rank(terms) + 4);
  const std::int64_t band_rows =
      std::max(overlay_band_bytes / row_bytes / kernels::merge_rows, std::int64_t{1}) * kernels::merge_rows;
  for (std::int64_t i = 0; i < base.rows; i += band_rows) {
    const std::int64_t rows = std::min(band_rows, base.rows - i);
    workers.share(rows, kernels::merge_rows, row_flops,
                  [&](std::int64_t first, std::int64_t count, kernels::Scratch scratch) {
                    const std::int64_t row = i + first;
                    kernels::merge_low_rank(base.block(row, 0, count, base.cols), terms,
                                            node.data + row * row_bytes, scratch, kernels::vector_kernels(),
                                            {.first_row = row});
                  });
    if (drops_source_pages)
      drop_pages({.data = base.at(i, 0), .bytes = static_cast<std::size_t>(rows * row_bytes)});
    after_band(rows * row_bytes);
  }
}

} // namespace tenon

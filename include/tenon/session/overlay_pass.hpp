// SPDX-License-Identifier: Apache-2.0
// Writing one overlay: the source's weight and all terms, in one pass, a band of rows after the other so that
// somebody can watch, and the pages of the source can be let go as the pass moves on. Threads share a band.
// Neither bands nor threads change a bit of the result. Allocates nothing.
#pragma once

#include <tenon/kernels/merge_deltas.hpp>
#include <tenon/kernels/workers.hpp>
#include <tenon/session/slot_table.hpp>
#include <tenon/weights/file_handle.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon {

inline constexpr std::int64_t overlay_band_bytes = std::int64_t{64} * 1024 * 1024;
inline constexpr std::int64_t dropped_band_bytes = std::int64_t{16} * 1024 * 1024; ///< where pages are let go
inline constexpr std::int64_t loss_block_rows = 8 * kernels::merge_rows; ///< measured by one thread, together

/// Where the loss of a merge goes: `total`, and room for the blocks of the largest weight, which are added up
/// in one order whatever the number of threads. Empty: it is not measured.
struct LossRoom {
  kernels::MergeLoss* total = nullptr;
  std::span<kernels::MergeLoss> blocks{};

  [[nodiscard]] static std::int64_t blocks_of(std::int64_t rows) noexcept {
    return (rows + loss_block_rows - 1) / loss_block_rows;
  }
};

/// One overlay's inputs, for all its bands.
struct OverlayPass {
  kernels::WeightMatrix base{};
  std::span<const kernels::LowRankTerm> terms{};
  std::span<const kernels::DeltaTerm> deltas{};
  std::byte* out = nullptr;
  LossRoom loss{};
  std::int64_t out_row = 0; ///< the weight's row that lies at `out`

  void write_rows(std::int64_t row, std::int64_t count, kernels::Scratch scratch,
                  kernels::MergeLoss* lost) const {
    std::byte* const to = out + (row - out_row) * base.cols * dtype_bytes(base.dtype);
    const kernels::MergePart part{.first_row = row, .loss = lost};
    if (deltas.empty())
      kernels::merge_low_rank(base.block(row, 0, count, base.cols), terms, to, scratch,
                              kernels::vector_kernels(), part);
    else
      kernels::merge_deltas(base, terms, deltas, count, to, scratch, kernels::vector_kernels(), part);
  }
  void write_band(std::int64_t row, std::int64_t rows, const kernels::Workers& workers) const {
    const std::int64_t row_flops = 2 * base.cols * (kernels::total_rank(terms) + 4 + 32 * std::ssize(deltas));
    if (loss.total == nullptr) {
      workers.share(rows, kernels::merge_rows, row_flops,
                    [&](std::int64_t first, std::int64_t count, kernels::Scratch scratch) {
                      write_rows(row + first, count, scratch, nullptr);
                    });
      return;
    }
    const auto blocks = loss.blocks.first(static_cast<std::size_t>(LossRoom::blocks_of(rows)));
    workers.share(std::ssize(blocks), 1, row_flops * loss_block_rows,
                  [&](std::int64_t first, std::int64_t count, kernels::Scratch scratch) {
                    for (std::int64_t i = first; i < first + count; ++i) {
                      const std::int64_t begin = i * loss_block_rows;
                      kernels::MergeLoss& lost = blocks[static_cast<std::size_t>(i)];
                      lost = {};
                      write_rows(row + begin, std::min(loss_block_rows, rows - begin), scratch, &lost);
                    }
                  });
    for (const kernels::MergeLoss& lost : blocks) *loss.total += lost;
  }
};

/// Writes the terms of `node`, over the overlays from `below` down but for `skipped`, to its data.
/// `after_band(bytes)` is called after each band; what it throws goes through, and the rest is then not
/// written.
template <class AfterBand>
void write_overlay(const SlotTable& slots, OverlayNode& node, const OverlayNode* below,
                   const OverlayNode* skipped, const kernels::Workers& workers, bool drops_source_pages,
                   LossRoom loss, AfterBand after_band) {
  const OverlayPass pass{weight_matrix(slots.source(node.slot)), SlotTable::gather(node, below, skipped),
                         SlotTable::gather_deltas(node, below, skipped), node.data, loss};
  const std::int64_t row_bytes = pass.base.cols * dtype_bytes(pass.base.dtype);
  const bool drops = drops_source_pages || node.is_in_place; // in place, the source only serves to start from
  const std::int64_t band_bytes = drops ? dropped_band_bytes : overlay_band_bytes;
  const std::int64_t band_rows =
      std::max(band_bytes / row_bytes / loss_block_rows, std::int64_t{1}) * loss_block_rows;
  for (std::int64_t i = 0; i < pass.base.rows; i += band_rows) {
    const std::int64_t rows = std::min(band_rows, pass.base.rows - i);
    pass.write_band(i, rows, workers);
    if (drops) drop_pages({.data = pass.base.at(i, 0), .bytes = static_cast<std::size_t>(rows * row_bytes)});
    after_band(rows * row_bytes);
  }
}

} // namespace tenon

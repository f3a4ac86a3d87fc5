// SPDX-License-Identifier: Apache-2.0
// W' = W + sum_i s_i B_i A_i + sum_j Delta_j(W), out of place, for adapters of any kinds together
// (delta_term.hpp). The changes of a few rows are added up in float, in a strip, from the pristine weight;
// then the weight is added and the sum rounded to the weight's type, once. Where all terms are low-rank, this
// is merge_low_rank, which holds no strip. Each element depends on the base and the terms alone: not on which
// rows are merged together. Cost: as the terms' (delta_rows.hpp), one read of W and one write more; scratch
// as `merge_deltas_scratch_bytes`. One thread.
#pragma once

#include <tenon/kernels/delta_rows.hpp>
#include <tenon/kernels/delta_term.hpp>
#include <tenon/kernels/factored.hpp>
#include <tenon/kernels/gather_b.hpp>
#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/merge.hpp>
#include <tenon/kernels/merge_kernels.hpp>
#include <tenon/kernels/merge_part.hpp>
#include <tenon/kernels/panels.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// Scratch of `merge_deltas` for a weight [out, in] and any terms.
[[nodiscard]] constexpr std::int64_t merge_deltas_scratch_bytes(std::int64_t out, std::int64_t in) noexcept {
  return scratch_max({merge_scratch_bytes, scratch_bytes<float>(delta_strip_rows * panel_floats(1, in)) +
                                               scratch_max({delta_rows_scratch_bytes(out, in),
                                                            strip_product_scratch_bytes(out, in)})});
}

/// strip += sum_i s_i B_i A_i, for the weight's rows from `first` on.
inline void add_low_rank_rows(const VectorKernels& kernels, std::span<const LowRankTerm> terms,
                              std::int64_t first, Matrix strip, Scratch scratch) {
  const auto room = scratch.take<float>(delta_strip_rows * delta_depth);
  for (const LowRankTerm& term : terms)
    for (std::int64_t k = 0; k < term.a.rows; k += delta_depth) {
      const RowWindow window = row_window(term, first, strip.rows);
      if (window.count == 0) break;
      const std::int64_t depth = std::min(delta_depth, term.a.rows - k);
      const Matrix b{room.data(), window.count, depth, depth};
      for (std::int64_t i = 0; i < b.rows; ++i)
        gather_row_of_b(kernels, term, window.row + i, k, depth, b.row(i));
      multiply_nn(b, term.a.block(k, 0, depth, strip.cols), 1.0f, strip.rows_from(window.begin, b.rows),
                  scratch, kernels);
    }
}

/// out [row_count, in], contiguous and of the base's dtype, = the rows of W' from part.first_row on; what
/// rounding lost of the changes is added to part.loss. Precondition: `out` overlaps nothing else.
inline void merge_deltas(WeightMatrix whole_base, std::span<const LowRankTerm> terms,
                         std::span<const DeltaTerm> others, std::int64_t row_count, std::byte* out,
                         Scratch scratch, const VectorKernels& kernels = vector_kernels(),
                         MergePart part = {}) {
  assert(part.first_row >= 0 && part.first_row + row_count <= whole_base.rows &&
         "merge_deltas: some rows of the weight");
  if (others.empty())
    return merge_low_rank(whole_base.block(part.first_row, 0, row_count, whole_base.cols), terms, out,
                          scratch, kernels, part);
  const MergeKernels& merge = merge_kernels(kernels.set);
  const std::int64_t stride = panel_floats(1, whole_base.cols); // the merge reads whole panels
  const auto room = scratch.take<float>(delta_strip_rows * stride);
  const std::int64_t out_stride = whole_base.cols * dtype_bytes(whole_base.dtype);
  for (std::int64_t i = 0; i < row_count; i += delta_strip_rows) {
    const Matrix strip{room.data(), std::min(delta_strip_rows, row_count - i), whole_base.cols, stride};
    std::fill_n(strip.data, strip.rows * stride, -0.0f); // to which any sum can be added unchanged
    add_low_rank_rows(kernels, terms, part.first_row + i, strip, scratch);
    for (const DeltaTerm& term : others)
      add_delta_rows(term, whole_base, part.first_row + i, strip, scratch, kernels);
    finish_tile(merge, whole_base.block(part.first_row + i, 0, strip.rows, strip.cols), strip,
                out + i * out_stride, out_stride, part.loss);
  }
}

} // namespace tenon::kernels

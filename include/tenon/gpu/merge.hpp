// SPDX-License-Identifier: Apache-2.0
// W' = W + sum_i s_i B_i A_i on a device, with the terms' gains and windows, out of place or in place: in one pass, with
// one read of W and one write, sums in floats, rounded to the weight's type once whatever the number of terms. Each
// element depends on the base and the terms alone. Factors that all have one type of 16 bits and no gains, beside a weight
// of 16 bits, go through CUDA's tensor cores (merge_mma.hpp), others through multiplications and additions of floats
// (merge_fma.hpp). Cost: 2 rows cols rank flops a term; no scratch up to eight terms. Its host twin is kernels/merge.hpp.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/gpu/block_team.hpp>
#include <tenon/gpu/merge_fma.hpp>
#include <tenon/gpu/merge_mma.hpp>
#include <tenon/gpu/merge_terms.hpp>
#include <tenon/gpu/merge_tile.hpp>
#include <tenon/gpu/queue.hpp>
#include <tenon/gpu/storage.hpp>
#include <tenon/gpu/system.hpp>
#include <tenon/gpu/wmma_unit.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::gpu {

/// Where merged rows go, and which of a weight's rows they are.
struct MergeOutput {
  std::byte* data = nullptr;  ///< of the base's dtype
  std::int64_t stride = 0;    ///< elements
  std::int64_t first_row = 0; ///< of the terms' weight, that the base's row 0 is
};

/// Whether a unit for products of 16-bit matrices takes these.
[[nodiscard]] inline bool fits_mma(DType base, std::span<const kernels::LowRankTerm> terms) noexcept {
  if (terms.empty() || dtype_bytes(base) != 2 || dtype_bytes(terms[0].a.dtype) != 2) return false;
  for (const kernels::LowRankTerm& term : terms)
    if (term.a.dtype != terms[0].a.dtype || term.b.dtype != terms[0].a.dtype || term.row_gain != nullptr ||
        term.rank_gain != nullptr)
      return false;
  return true;
}

template <class Block>
void run_merge(Queue& queue, const MergeSegment& segment) {
  for_each_block(queue, merge_tiles(segment, Block::tile_cols), Block{segment});
}

#if TENON_ON_CUDA
/// Precondition: fits_mma.
template <class Storage, class Factor>
void merge_by_mma(Queue& queue, const MergeSegment& segment) {
  if (segment.terms.count == 1)
    run_merge<MergeByMma<Storage, WmmaUnit<Factor>, false>>(queue, segment);
  else
    run_merge<MergeByMma<Storage, WmmaUnit<Factor>, true>>(queue, segment);
}
#endif

/// out [rows, cols] = base + sum_i s_i B_i A_i. `room` is device memory for the terms' descriptions, of
/// `merge_room_bytes(terms.size())`, and is theirs until this merge is done. Precondition: `out` is the base, with its
/// stride, or overlaps nothing else; base and out are aligned to their elements. Throws `error{wrong_dtype}` before
/// anything is put on the queue, `error{device_failed}`.
inline void merge(Queue& queue, const kernels::WeightMatrix& base,
                  std::span<const kernels::LowRankTerm> terms, const MergeOutput& out,
                  std::span<std::byte> room = {}) {
  for ([[maybe_unused]] const kernels::LowRankTerm& term : terms)
    assert(term.a.cols == base.cols && term.b.cols == term.a.rows && term.first_row >= 0 &&
           "merge: shapes A [rank,in], B [rows,rank] from row 0 of the weight or a later one on");
  if (!is_weight_dtype(base.dtype))
    throw error(ErrorCode::wrong_dtype,
                concat("merge on a device: expected F32, F16 or BF16, got ", dtype_name(base.dtype)));
  const MergeSegment segment{.base = base.data,
                             .out = out.data,
                             .rows = base.rows,
                             .cols = base.cols,
                             .base_stride = base.stride,
                             .out_stride = out.stride,
                             .first_row = out.first_row,
                             .is_wide = is_wide(base.data, base.dtype, base.stride) &&
                                        is_wide(out.data, base.dtype, out.stride),
                             .terms = merge_terms(queue, terms, room)};
  with_storage(base.dtype, [&]<class Storage>(Storage) {
#if TENON_ON_CUDA
    if constexpr (Storage::dtype != DType::f32)
      if (fits_mma(base.dtype, terms))
        return terms[0].a.dtype == DType::f16 ? merge_by_mma<Storage, StoredF16>(queue, segment)
                                              : merge_by_mma<Storage, StoredBf16>(queue, segment);
#endif
    run_merge<MergeByFma<Storage>>(queue, segment);
  });
}

} // namespace tenon::gpu

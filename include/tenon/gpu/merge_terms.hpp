// SPDX-License-Identifier: Apache-2.0
// What a merge on a device is told: some rows of a weight, where the sums go, and the adapters, whose descriptions travel
// as parameters of the launch. More than eight lie in device memory: small launches, each with some of them as
// parameters, write them there, so that no host memory has to stay as it is and nothing waits.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/gpu/queue.hpp>
#include <tenon/gpu/scratch.hpp>
#include <tenon/gpu/system.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace tenon::gpu {

/// A kernels::LowRankTerm for a device; all it points to is device memory.
struct MergeTerm {
  const std::byte* a; ///< [rank, in]
  const std::byte* b; ///< [rows, rank]
  std::int64_t rank;
  std::int64_t a_stride;
  std::int64_t b_stride;
  std::int64_t first_row; ///< of the weight, that b's first row belongs to
  std::int64_t rows;
  const float* scale_at; ///< null: `scale`
  const float* row_gain;
  const float* rank_gain;
  float scale;
  DType a_dtype;
  DType b_dtype;
  bool a_is_wide; ///< its rows begin on boundaries of 16 bytes
  bool b_is_wide;

  [[nodiscard]] TENON_HD float factor() const { return scale_at == nullptr ? scale : *scale_at; }
};
static_assert(std::is_trivially_copyable_v<MergeTerm>);

inline constexpr int own_merge_terms = 8; ///< travel as parameters

struct MergeTerms {
  std::int64_t count = 0;
  const MergeTerm* stored = nullptr; ///< device memory; null: `own`
  MergeTerm own[own_merge_terms];

  [[nodiscard]] TENON_HD const MergeTerm& operator[](std::int64_t i) const {
    return stored == nullptr ? own[i] : stored[i];
  }
};

/// Some rows of a weight, all under the same terms: out = base + sum_i s_i B_i A_i.
struct MergeSegment {
  const std::byte* base;
  std::byte* out;
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t base_stride; ///< elements
  std::int64_t out_stride;
  std::int64_t first_row; ///< of the weight, that base's row 0 is
  bool is_wide;           ///< rows of both begin on boundaries of 16 bytes
  MergeTerms terms;
};

/// Whether rows `stride` elements apart, from `data` on, begin on boundaries of 16 bytes.
[[nodiscard]] inline bool is_wide(const std::byte* data, DType dtype, std::int64_t stride) noexcept {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride * dtype_bytes(dtype) % 16 == 0;
}

/// Device memory that `merge` needs to describe so many terms.
[[nodiscard]] constexpr std::int64_t merge_room_bytes(std::int64_t terms) noexcept {
  return terms <= own_merge_terms
             ? 0
             : DeviceScratch::rounded(terms * static_cast<std::int64_t>(sizeof(MergeTerm)));
}

/// to[i] = from[i], the descriptions being a part of the functor.
struct StoreMergeTerms {
  MergeTerm from[own_merge_terms];
  MergeTerm* to;

  TENON_HD void operator()(std::int64_t i) const { to[i] = from[i]; }
};

/// Throws `error{wrong_dtype}`.
[[nodiscard]] inline MergeTerm merge_term(const kernels::LowRankTerm& term) {
  for (const DType dtype : {term.a.dtype, term.b.dtype})
    if (!is_weight_dtype(dtype))
      throw error(ErrorCode::wrong_dtype,
                  concat("a factor on a device: expected F32, F16 or BF16, got ", dtype_name(dtype)));
  return {.a = term.a.data,
          .b = term.b.data,
          .rank = term.a.rows,
          .a_stride = term.a.stride,
          .b_stride = term.b.stride,
          .first_row = term.first_row,
          .rows = term.b.rows,
          .scale_at = term.scale_at,
          .row_gain = term.row_gain,
          .rank_gain = term.rank_gain,
          .scale = term.scale,
          .a_dtype = term.a.dtype,
          .b_dtype = term.b.dtype,
          .a_is_wide = is_wide(term.a.data, term.a.dtype, term.a.stride),
          .b_is_wide = is_wide(term.b.data, term.b.dtype, term.b.stride)};
}

/// `room` is device memory of `merge_room_bytes`. Throws `error{wrong_dtype}` before anything is put on the queue.
[[nodiscard]] inline MergeTerms merge_terms(Queue& queue, std::span<const kernels::LowRankTerm> terms,
                                            std::span<std::byte> room) {
  MergeTerms all{};
  all.count = std::ssize(terms);
  if (all.count <= own_merge_terms) {
    for (std::size_t i = 0; i < terms.size(); ++i) all.own[i] = merge_term(terms[i]);
    return all;
  }
  for (const kernels::LowRankTerm& term : terms) static_cast<void>(merge_term(term));
  assert(merge_room_bytes(all.count) <= std::ssize(room) && "merge: room for the terms' descriptions");
  auto* const stored = reinterpret_cast<MergeTerm*>(room.data());
  for (std::int64_t first = 0; first < all.count; first += own_merge_terms) {
    const std::int64_t count = std::min<std::int64_t>(own_merge_terms, all.count - first);
    StoreMergeTerms some{};
    some.to = stored + first;
    for (std::int64_t i = 0; i < count; ++i)
      some.from[i] = merge_term(terms[static_cast<std::size_t>(first + i)]);
    for_each_index(queue, count, some);
  }
  all.stored = stored;
  return all;
}

} // namespace tenon::gpu

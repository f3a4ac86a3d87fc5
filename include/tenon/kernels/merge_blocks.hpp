// SPDX-License-Identifier: Apache-2.0
// What the merges share in how they walk a weight: some rows at a time, and fewer columns where a loss is measured.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/merge_kernels.hpp>
#include <tenon/kernels/merge_part.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace tenon::kernels {

inline constexpr std::int64_t merge_rows = 24; ///< of W, whose B is gathered together
inline constexpr std::int64_t merge_cols = 64; ///< of W, measured together
/// From so many bytes on rows of f32 are stored past the caches: more than the part of them that is one core's own.
inline constexpr std::int64_t streamed_merge_bytes = 512 * 1024;

/// Whether rows of `out` are stored past the caches: f32, many enough, and whole lines.
[[nodiscard]] inline bool is_streamed(DType dtype, const std::byte* out, std::int64_t stride,
                                      std::int64_t rows) noexcept {
  constexpr std::int64_t line = 64;
  return dtype == DType::f32 && rows * stride >= streamed_merge_bytes && stride % line == 0 &&
         reinterpret_cast<std::uintptr_t>(out) % line == 0;
}

/// Where column i of a panel's row lies if its even columns are before its odd ones, as `merge_rows` takes them for
/// bfloat16.
[[nodiscard]] constexpr std::int64_t alternate_place(std::int64_t i, std::int64_t width) noexcept {
  return i / 2 + i % 2 * (width / 2);
}

/// `merge(block, first column, out)` for all columns; or, where a loss is measured, for a few at a time.
template <class Merge>
void merge_measured(const MergeKernels& kernels, WeightMatrix base, MergedRows out, float* sums,
                    MergeLoss* loss, Merge merge) {
  if (loss == nullptr) return merge(base, std::int64_t{0}, out);
  for (std::int64_t j = 0; j < base.cols; j += merge_cols) {
    const WeightMatrix block = base.block(0, j, base.rows, std::min(merge_cols, base.cols - j));
    const Matrix delta{sums, block.rows, block.cols, merge_cols};
    std::byte* const to = out.data + j * dtype_bytes(base.dtype);
    merge(block, j, MergedRows{to, out.stride, delta, out.streams});
    kernels.measure(block, delta, 1.0f, to, out.stride, *loss);
  }
}

/// out = base + tile and, if it is asked for, what that lost.
inline void finish_tile(const MergeKernels& merge, WeightMatrix base, ConstMatrix tile, std::byte* out,
                        std::int64_t out_stride, MergeLoss* loss) {
  merge.add_tile(base, tile, 1.0f, out, out_stride);
  if (loss != nullptr) merge.measure(base, tile, 1.0f, out, out_stride, *loss);
}

} // namespace tenon::kernels

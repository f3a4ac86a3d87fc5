// SPDX-License-Identifier: Apache-2.0
// What both ways to merge a tile of a weight share: where a tile lies, and elements moved several at a time where
// they are all there and aligned, else one by one.
#pragma once

#include <tenon/gpu/merge_terms.hpp>
#include <tenon/gpu/storage.hpp>
#include <tenon/gpu/system.hpp>

#include <bit>
#include <cstdint>

namespace tenon::gpu {

inline constexpr int merge_tile_rows = 128; ///< of every tile; how many columns is the block's choice
inline constexpr int merge_threads = 256;

/// Of a segment's rows and columns, the first of each.
struct MergeTile {
  std::int64_t row;
  std::int64_t col;
};

/// How many tiles of `tile_cols` columns a segment has.
[[nodiscard]] TENON_HD constexpr std::int64_t merge_tiles(const MergeSegment& segment, int tile_cols) {
  return (segment.rows + merge_tile_rows - 1) / merge_tile_rows *
         ((segment.cols + tile_cols - 1) / tile_cols);
}
/// Tiles beside each other follow one another: they read the same rows of B.
[[nodiscard]] TENON_HD constexpr MergeTile merge_tile(const MergeSegment& segment, int tile_cols,
                                                      std::int64_t i) {
  const std::int64_t across = (segment.cols + tile_cols - 1) / tile_cols;
  return {i / across * merge_tile_rows, i % across * tile_cols};
}

/// Whether a term has any of the weight's rows that the tile has.
[[nodiscard]] TENON_HD inline bool touches(const MergeTerm& term, const MergeSegment& segment,
                                           MergeTile tile) {
  const std::int64_t first = segment.first_row + tile.row;
  return first < term.first_row + term.rows && first + merge_tile_rows > term.first_row;
}

template <class Storage>
[[nodiscard]] TENON_HD const typename Storage::bits* base_row(const MergeSegment& segment, std::int64_t row) {
  return reinterpret_cast<const typename Storage::bits*>(segment.base) + row * segment.base_stride;
}
template <class Storage>
[[nodiscard]] TENON_HD typename Storage::bits* out_row(const MergeSegment& segment, std::int64_t row) {
  return reinterpret_cast<typename Storage::bits*>(segment.out) + row * segment.out_stride;
}

/// Four bytes, whatever they are part of.
using PackWord [[gnu::may_alias]] = std::uint32_t;

/// `Count` stored elements that are moved at once. They are kept as they lie, in whole words: a device would give each
/// 16-bit number a register.
template <class Storage, int Count>
struct alignas(sizeof(typename Storage::bits) * Count) Pack {
  static constexpr int in_word = 4 / static_cast<int>(sizeof(typename Storage::bits));
  PackWord words[Count / in_word];

  /// Whether `Count` elements from `col` on can be moved at once: they are all there, and aligned.
  [[nodiscard]] TENON_HD static bool fits(std::int64_t col, std::int64_t cols, bool is_wide) {
    return is_wide && col + Count <= cols;
  }
  [[nodiscard]] TENON_HD static Pack load(const typename Storage::bits* from) {
    return *reinterpret_cast<const Pack*>(from);
  }
  TENON_HD void store(typename Storage::bits* to) const { *reinterpret_cast<Pack*>(to) = *this; }
  /// As `store`, to global memory that the device does not read again soon.
  TENON_HD void store_last(typename Storage::bits* to) const {
#if defined(__CUDA_ARCH__) // by name: nvcc cuts a structure of computed words into words
    if constexpr (sizeof(Pack) == 16)
      __stcs(reinterpret_cast<uint4*>(to), make_uint4(words[0], words[1], words[2], words[3]));
    else
      __stcs(reinterpret_cast<uint2*>(to), make_uint2(words[0], words[1]));
#else
    store(to);
#endif
  }

  /// Adds `sums`, each sum being rounded once.
  TENON_HD void add(const float* sums) {
    TENON_UNROLL
    for (int i = 0; i < Count / in_word; ++i)
      if constexpr (in_word == 1) {
        words[i] = std::bit_cast<std::uint32_t>(std::bit_cast<float>(words[i]) + sums[i]);
      } else {
        const float low = Storage::value(static_cast<std::uint16_t>(words[i])) + sums[2 * i];
        const float high = Storage::value(static_cast<std::uint16_t>(words[i] >> 16)) + sums[2 * i + 1];
        words[i] = Storage::from(low) | std::uint32_t{Storage::from(high)} << 16;
      }
  }
};

/// out[col ...] = base[col ...] + sums, up to `count` elements of a row of `cols`, one by one.
template <class Storage>
TENON_HD void add_singly(const typename Storage::bits* base, typename Storage::bits* out, std::int64_t col,
                         std::int64_t cols, int count, const float* sums) {
  for (int i = 0; i < count && col + i < cols; ++i)
    out[col + i] = Storage::from(Storage::value(base[col + i]) + sums[i]);
}

} // namespace tenon::gpu

// SPDX-License-Identifier: Apache-2.0
// A tile of a merge by multiplications and additions of floats, for all dtypes and gains. 256 threads make 128 x 128 sums,
// each of them 8 x 8 in registers, from 16 ranks of A and of B at a time, which are decoded into shared memory; B is
// multiplied by its scale and its gains there (the outer-product form of Volkov and Demmel, "Benchmarking GPUs to tune
// dense linear algebra", SC 2008). Then the weight is read, added to and written, once.
#pragma once

#include <tenon/gpu/merge_terms.hpp>
#include <tenon/gpu/merge_tile.hpp>
#include <tenon/gpu/storage.hpp>
#include <tenon/gpu/system.hpp>

#include <cstddef>
#include <cstdint>

namespace tenon::gpu {

template <class Storage>
struct MergeByFma {
  static constexpr int threads = merge_threads;
  static constexpr int tile_cols = 128;
  static constexpr int depth = 16;  ///< ranks in shared memory
  static constexpr int own = 8;     ///< rows, and columns, of a thread
  static constexpr int padding = 4; ///< floats, so that writing a column of b meets fewer bank conflicts

  struct Shared {
    alignas(16) float a[depth][tile_cols];
    alignas(16) float b[depth][merge_tile_rows + padding]; ///< turned round
  };
  struct Thread {
    float sums[own][own];
  };
  struct Warp {};

  MergeSegment segment;

  // Of the tile's rows and columns a thread has two groups of four, half a tile apart: those of the threads beside it lie
  // beside them, in shared memory and in the weight.
  [[nodiscard]] TENON_HD static constexpr int row_of(int thread, int i) {
    return i / 4 * (merge_tile_rows / 2) + thread / 16 * 4 + i % 4;
  }
  [[nodiscard]] TENON_HD static constexpr int col_of(int thread, int j) {
    return j / 4 * (tile_cols / 2) + thread % 16 * 4 + j % 4;
  }

  template <class Team>
  TENON_HD void run(Team& team, Shared& shared, std::int64_t block) const {
    const MergeTile tile = merge_tile(segment, tile_cols, block);
    team.each_thread([&](int, Thread& mine) { clear(mine); });
    for (std::int64_t t = 0; t < segment.terms.count; ++t) {
      const MergeTerm& term = segment.terms[t];
      if (!touches(term, segment, tile)) continue;
      for (std::int64_t rank = 0; rank < term.rank; rank += depth) {
        const int count = static_cast<int>(term.rank - rank < depth ? term.rank - rank : depth);
        team.each_thread([&](int thread, Thread&) { load(shared, term, tile, rank, count, thread); });
        team.each_thread([&](int thread, Thread& mine) { multiply(shared, count, thread, mine); });
      }
    }
    team.each_thread([&](int thread, Thread& mine) { finish(tile, thread, mine); });
  }

 private:
  TENON_HD static void clear(Thread& mine) {
    TENON_UNROLL
    for (int i = 0; i < own; ++i) {
      TENON_UNROLL
      for (int j = 0; j < own; ++j) mine.sums[i][j] = -0.0f; // to which any sum can be added unchanged
    }
  }

  TENON_HD void load(Shared& shared, const MergeTerm& term, MergeTile tile, std::int64_t rank, int count,
                     int thread) const {
    switch (term.a_dtype) {
    case DType::f32:
      load_a<StoredF32>(shared, term, tile, rank, count, thread);
      break;
    case DType::f16:
      load_a<StoredF16>(shared, term, tile, rank, count, thread);
      break;
    default:
      load_a<StoredBf16>(shared, term, tile, rank, count, thread);
    }
    switch (term.b_dtype) {
    case DType::f32:
      load_b<StoredF32>(shared, term, tile, rank, count, thread);
      break;
    case DType::f16:
      load_b<StoredF16>(shared, term, tile, rank, count, thread);
      break;
    default:
      load_b<StoredBf16>(shared, term, tile, rank, count, thread);
    }
  }
  // What a description says is read before shared memory is written, which it might lie in for all the compiler knows.

  /// Threads beside each other read columns beside each other.
  template <class Factor>
  TENON_HD void load_a(Shared& shared, const MergeTerm& term, MergeTile tile, std::int64_t rank, int count,
                       int thread) const {
    const std::int64_t stride = term.a_stride;
    const StoredPointer<Factor> a(term.a + (rank * stride + tile.col) *
                                               static_cast<std::int64_t>(sizeof(typename Factor::bits)));
    const std::int64_t cols = segment.cols - tile.col;
    for (int i = thread; i < depth * tile_cols; i += threads) {
      const int k = i / tile_cols;
      const int col = i % tile_cols;
      shared.a[k][col] = k < count && col < cols ? a[k * stride + col] : 0.0f;
    }
  }
  /// Threads beside each other read ranks beside each other.
  template <class Factor>
  TENON_HD void load_b(Shared& shared, const MergeTerm& term, MergeTile tile, std::int64_t rank, int count,
                       int thread) const {
    const float scale = term.factor();
    const float* const row_gain = term.row_gain;
    const float* const rank_gain = term.rank_gain;
    const std::int64_t stride = term.b_stride;
    const std::int64_t rows = term.rows;
    const StoredPointer<Factor> b(term.b + rank * static_cast<std::int64_t>(sizeof(typename Factor::bits)));
    const std::int64_t first = segment.first_row + tile.row - term.first_row;
    for (int i = thread; i < depth * merge_tile_rows; i += threads) {
      const int k = i % depth;
      const int row = i / depth;
      const std::int64_t at = first + row;
      float value = 0.0f;
      if (k < count && at >= 0 && at < rows && tile.row + row < segment.rows) {
        value = b[at * stride + k] * (row_gain == nullptr ? scale : row_gain[at] * scale);
        if (rank_gain != nullptr) value *= rank_gain[rank + k];
      }
      shared.b[k][row] = value;
    }
  }

  TENON_HD static void multiply(const Shared& shared, int count, int thread, Thread& mine) {
    for (int k = 0; k < count; ++k) {
      float a[own];
      float b[own];
      TENON_UNROLL
      for (int j = 0; j < own; ++j) a[j] = shared.a[k][col_of(thread, j)];
      TENON_UNROLL
      for (int i = 0; i < own; ++i) b[i] = shared.b[k][row_of(thread, i)];
      TENON_UNROLL
      for (int i = 0; i < own; ++i) {
        TENON_UNROLL
        for (int j = 0; j < own; ++j) mine.sums[i][j] += b[i] * a[j];
      }
    }
  }

  /// Four rows at a time: all that is read of them is on its way before the first is waited for.
  TENON_HD void finish(MergeTile tile, int thread, const Thread& mine) const {
    using Four = Pack<Storage, 4>;
    TENON_UNROLL
    for (int half = 0; half < own; half += 4) {
      Four held[8];
      TENON_UNROLL
      for (int i = 0; i < 8; ++i) {
        const std::int64_t row = tile.row + row_of(thread, half + i / 2);
        const std::int64_t col = tile.col + col_of(thread, i % 2 * 4);
        if (row < segment.rows && Four::fits(col, segment.cols, segment.is_wide))
          held[i] = Four::load(base_row<Storage>(segment, row) + col);
      }
      TENON_UNROLL
      for (int i = 0; i < 8; ++i) {
        const std::int64_t row = tile.row + row_of(thread, half + i / 2);
        const std::int64_t col = tile.col + col_of(thread, i % 2 * 4);
        const float* const sums = &mine.sums[half + i / 2][i % 2 * 4];
        if (row >= segment.rows) continue;
        if (Four::fits(col, segment.cols, segment.is_wide)) {
          held[i].add(sums);
          held[i].store_last(out_row<Storage>(segment, row) + col);
        } else {
          add_singly<Storage>(base_row<Storage>(segment, row), out_row<Storage>(segment, row), col,
                              segment.cols, 4, sums);
        }
      }
    }
  }
};

} // namespace tenon::gpu

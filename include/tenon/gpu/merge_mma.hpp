// SPDX-License-Identifier: Apache-2.0
// A tile of a merge by a unit that multiplies matrices of 16-bit numbers into floats, for factors of one 16-bit type
// without gains: products are exact, sums floats, and the scale multiplies the sums. 256 threads make 128 x 128 sums (for
// several terms 128 x 64, and their totals), a warp 32 x 64 (32 x 32) of them in squares, from 32 ranks of A and of B at a time in shared memory, as they are stored. The
// weight is asked for before all that, is added to when the sums lie in shared memory in its own order, and is written
// once. Which thread holds which element of a square is the unit's secret.
#pragma once

#include <tenon/gpu/block_team.hpp>
#include <tenon/gpu/merge_terms.hpp>
#include <tenon/gpu/merge_tile.hpp>
#include <tenon/gpu/storage.hpp>
#include <tenon/gpu/system.hpp>

#include <cstddef>
#include <cstdint>

namespace tenon::gpu {

/// `Unit` has `Factor`, the factors' storage, the types `Left`, `Right` and `Sum` of squares of 16 x 16 that a warp holds
/// together, and on them load_left(from, stride), load_right, fill(sum, value), add_product(sum, left, right), scale(sum,
/// factor), add_scaled(to, factor, from) and store(sum, to, stride). `Several`: there may be more than one term.
template <class Storage, class Unit, bool Several>
struct MergeByMma {
  using Factor = typename Unit::Factor;
  using FactorBits = typename Factor::bits;

  static constexpr int threads = merge_threads;
  static constexpr int warps = threads / warp_size;
  static constexpr int square = 16;
  static constexpr int depth = 32; ///< ranks in shared memory
  static constexpr int warp_rows = 32;
  static constexpr int warp_cols = Several ? 32 : 64; // sums and totals take the registers of twice the sums
  static constexpr int warps_across = 2;
  static constexpr int tile_cols = warps_across * warp_cols;
  static constexpr int down = warp_rows / square;   ///< squares of a warp
  static constexpr int across = warp_cols / square; ///< squares of a warp
  static constexpr int wide = 8;                    ///< elements moved at once, 16 bytes of them
  static constexpr int packs = square * warp_cols / wide / warp_size; ///< of a thread in a row of squares

  // Paddings keep rows on the 32 bytes that a unit asks for, and let 8 of them lie in different banks.
  struct Factors {
    FactorBits a[depth][tile_cols + 8];
    FactorBits b[merge_tile_rows][depth + 8];
  };
  /// Factors first, then the warps' sums, a row of squares at a time.
  union alignas(128) Shared {
    Factors factors;
    float sums[warps][square][warp_cols + 4];
  };
  using Eight = Pack<Storage, wide>;
  struct Thread {
    Eight held[down][packs];
  };
  struct Warp {
    typename Unit::Sum sums[down][across];
    typename Unit::Sum totals[Several ? down : 1][Several ? across : 1];
  };

  MergeSegment segment;

  /// Of the tile, the first row and column of a warp.
  [[nodiscard]] TENON_HD static constexpr int row_of_warp(int warp) {
    return warp / warps_across * warp_rows;
  }
  [[nodiscard]] TENON_HD static constexpr int col_of_warp(int warp) {
    return warp % warps_across * warp_cols;
  }
  /// Of a row of squares, the row and the first column of a thread's pack: eight threads have a row.
  [[nodiscard]] TENON_HD static constexpr int row_of_pack(int thread, int pack) {
    return (thread % warp_size + pack * warp_size) / (warp_cols / wide);
  }
  [[nodiscard]] TENON_HD static constexpr int col_of_pack(int thread) {
    return thread % warp_size % (warp_cols / wide) * wide;
  }

  template <class Team>
  TENON_HD void run(Team& team, Shared& shared, std::int64_t block) const {
    const MergeTile tile = merge_tile(segment, tile_cols, block);
    team.each_thread([&](int thread, Thread& mine) { ask_for_weight(tile, thread, mine); });
    team.each_warp([&](int, Warp& mine) { clear(mine); });
    for (std::int64_t t = 0; t < segment.terms.count; ++t) {
      const MergeTerm& term = segment.terms[t];
      if (!touches(term, segment, tile)) continue;
      for (std::int64_t rank = 0; rank < term.rank; rank += depth) {
        const int count = static_cast<int>(term.rank - rank < depth ? term.rank - rank : depth);
        team.each_thread([&](int thread, Thread&) { load(shared.factors, term, tile, rank, thread); });
        team.each_warp([&](int warp, Warp& mine) {
          multiply(shared.factors, count, warp, mine);
          if (rank + depth >= term.rank) end_term(term.factor(), mine);
        });
      }
    }
    TENON_UNROLL
    for (int i = 0; i < down; ++i) {
      team.each_warp([&](int warp, Warp& mine) { lay_out(shared, warp, i, mine); });
      team.each_thread([&](int thread, Thread& mine) { finish(shared, tile, thread, i, mine); });
    }
  }

 private:
  [[nodiscard]] TENON_HD static std::int64_t row_of(MergeTile tile, int thread, int i, int pack) {
    return tile.row + row_of_warp(thread / warp_size) + i * square + row_of_pack(thread, pack);
  }
  [[nodiscard]] TENON_HD static std::int64_t col_of(MergeTile tile, int thread) {
    return tile.col + col_of_warp(thread / warp_size) + col_of_pack(thread);
  }

  TENON_HD void ask_for_weight(MergeTile tile, int thread, Thread& mine) const {
    const std::int64_t col = col_of(tile, thread);
    if (!Eight::fits(col, segment.cols, segment.is_wide)) return;
    TENON_UNROLL
    for (int i = 0; i < down * packs; ++i) {
      const std::int64_t row = row_of(tile, thread, i / packs, i % packs);
      if (row < segment.rows)
        mine.held[i / packs][i % packs] = Eight::load(base_row<Storage>(segment, row) + col);
    }
  }

  TENON_HD static void clear(Warp& mine) {
    TENON_UNROLL
    for (int i = 0; i < down * across; ++i) { // -0, to which any sum can be added unchanged
      Unit::fill(mine.sums[i / across][i % across], -0.0f);
      if constexpr (Several) Unit::fill(mine.totals[i / across][i % across], -0.0f);
    }
  }

  /// to[0 ... 7] = the elements from `col` on of a row of `cols`; zeros past its end, or where the row is not there.
  TENON_HD static void load_eight(FactorBits* to, const FactorBits* row, std::int64_t col, std::int64_t cols,
                                  bool is_wide) {
    using Pack = Pack<Factor, wide>;
    if (row != nullptr && Pack::fits(col, cols, is_wide)) {
      Pack::load(row + col).store(to);
      return;
    }
    for (int i = 0; i < wide; ++i) to[i] = row != nullptr && col + i < cols ? row[col + i] : FactorBits{};
  }
  /// All of `depth` ranks: zeros past the term's last, past its rows of the weight, and past the weight's columns.
  TENON_HD void load(Factors& to, const MergeTerm& term, MergeTile tile, std::int64_t rank,
                     int thread) const {
    const FactorBits* const a = reinterpret_cast<const FactorBits*>(term.a);
    const FactorBits* const b = reinterpret_cast<const FactorBits*>(term.b);
    constexpr int in_row_of_a = tile_cols / wide;
    constexpr int in_row_of_b = depth / wide;
    for (int i = thread; i < depth * in_row_of_a; i += threads) {
      const int k = i / in_row_of_a;
      const int col = i % in_row_of_a * wide;
      load_eight(&to.a[k][col], rank + k < term.rank ? a + (rank + k) * term.a_stride : nullptr,
                 tile.col + col, segment.cols, term.a_is_wide);
    }
    for (int i = thread; i < merge_tile_rows * in_row_of_b; i += threads) {
      const int row = i / in_row_of_b;
      const int k = i % in_row_of_b * wide;
      const std::int64_t at = segment.first_row + tile.row + row - term.first_row;
      const bool is_there = at >= 0 && at < term.rows && tile.row + row < segment.rows;
      load_eight(&to.b[row][k], is_there ? b + at * term.b_stride : nullptr, rank + k, term.rank,
                 term.b_is_wide);
    }
  }

  TENON_HD static void multiply(const Factors& from, int count, int warp, Warp& mine) {
    TENON_ROLLED // or the squares of the next ranks take registers that the weight's have
        for (int k = 0; k < count; k += square) {
      typename Unit::Left left[down];
      TENON_UNROLL
      for (int i = 0; i < down; ++i)
        Unit::load_left(left[i], &from.b[row_of_warp(warp) + i * square][k], depth + 8);
      TENON_UNROLL
      for (int j = 0; j < across; ++j) {
        typename Unit::Right right;
        Unit::load_right(right, &from.a[k][col_of_warp(warp) + j * square], tile_cols + 8);
        TENON_UNROLL
        for (int i = 0; i < down; ++i) Unit::add_product(mine.sums[i][j], left[i], right);
      }
    }
  }

  TENON_HD static void end_term(float scale, Warp& mine) {
    TENON_UNROLL
    for (int i = 0; i < down * across; ++i) {
      typename Unit::Sum& sum = mine.sums[i / across][i % across];
      if constexpr (Several) {
        Unit::add_scaled(mine.totals[i / across][i % across], scale, sum);
        Unit::fill(sum, -0.0f);
      } else {
        Unit::scale(sum, scale);
      }
    }
  }

  TENON_HD static void lay_out(Shared& shared, int warp, int i, const Warp& mine) {
    TENON_UNROLL
    for (int j = 0; j < across; ++j) {
      float* const to = &shared.sums[warp][0][j * square];
      if constexpr (Several)
        Unit::store(mine.totals[i][j], to, warp_cols + 4);
      else
        Unit::store(mine.sums[i][j], to, warp_cols + 4);
    }
  }

  TENON_HD void finish(const Shared& shared, MergeTile tile, int thread, int i, Thread& mine) const {
    const std::int64_t col = col_of(tile, thread);
    TENON_UNROLL
    for (int p = 0; p < packs; ++p) {
      const std::int64_t row = row_of(tile, thread, i, p);
      const float* const sums = &shared.sums[thread / warp_size][row_of_pack(thread, p)][col_of_pack(thread)];
      if (row >= segment.rows) continue;
      if (Eight::fits(col, segment.cols, segment.is_wide)) {
        mine.held[i][p].add(sums);
        mine.held[i][p].store_last(out_row<Storage>(segment, row) + col);
      } else {
        add_singly<Storage>(base_row<Storage>(segment, row), out_row<Storage>(segment, row), col,
                            segment.cols, wide, sums);
      }
    }
  }
};

} // namespace tenon::gpu

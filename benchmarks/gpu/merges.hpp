// SPDX-License-Identifier: Apache-2.0
// Copies and fused merges on a device. The reference of a merge is a copy on the same device of as many bytes, read and
// written: less than reading the base once and writing the result once cannot be. More matrices than a cache holds are
// taken in turn.
#pragma once

#include "bench.hpp"

namespace tenon::bench {

/// Weights of one shape with an adapter each, in device memory.
class Weights {
 public:
  Weights(Bench& bench, std::int64_t rows, std::int64_t cols, std::int64_t rank, std::int64_t count)
      : each_(on_device_boundary(rows * cols * 2)), a_bytes_(on_device_boundary(rank * cols * 2)),
        factors_each_(a_bytes_ + on_device_boundary(rows * rank * 2)), base_(bench.bytes(count * each_)),
        out_(bench.bytes(count * each_)), factors_(bench.bytes(count * factors_each_)), rows_(rows),
        cols_(cols), rank_(rank), count_(count) {
    bench.fill(base_.data(), base_.bytes());
    bench.fill(factors_.data(), factors_.bytes());
  }

  [[nodiscard]] kernels::WeightMatrix base(std::int64_t i) const {
    return {base_.data() + i % count_ * each_, bf16, rows_, cols_, cols_};
  }
  [[nodiscard]] kernels::LowRankTerm term(std::int64_t i, float scale = 1.0f) const {
    const std::byte* const factors = factors_.data() + i % count_ * factors_each_;
    return {.a = {factors, bf16, rank_, cols_, cols_},
            .b = {factors + a_bytes_, bf16, rows_, rank_, rank_},
            .scale = scale};
  }
  [[nodiscard]] std::byte* out(std::int64_t i) { return out_.data() + i % count_ * each_; }
  /// The base's own bytes, to merge in place.
  [[nodiscard]] std::byte* own(std::int64_t i) { return base_.data() + i % count_ * each_; }
  [[nodiscard]] std::int64_t bytes() const { return rows_ * cols_ * 2; }

 private:
  std::int64_t each_;
  std::int64_t a_bytes_;
  std::int64_t factors_each_;
  Buffer base_;
  Buffer out_;
  Buffer factors_;
  std::int64_t rows_;
  std::int64_t cols_;
  std::int64_t rank_;
  std::int64_t count_;
};

inline constexpr std::int64_t weights_in_turn = 6; ///< of 5120 x 5120 as many bytes as no cache holds

/// GB/s, read and written.
[[nodiscard]] inline double rate(std::int64_t bytes, double time) {
  return 2 * static_cast<double>(bytes) / time * 1e-9;
}

inline void copy_row(Bench& bench) {
  const std::int64_t bytes = bench.tiny() ? std::int64_t{1} << 20 : std::int64_t{1} << 30;
  Buffer from = bench.bytes(bytes);
  Buffer to = bench.bytes(bytes);
  bench.fill(from.data(), bytes);
  const auto [time] = bench.in_turn([&](std::int64_t) { bench.lane().copy(to.data(), from.data(), bytes); });
  bench.copy_rate = rate(bytes, time);
  bench.table().add({.key = "copy",
                     .what = concat("copy on the device, ", bytes_text(bytes), " (DeviceLane::copy)"),
                     .value = bench.copy_rate,
                     .unit = "GB/s"});
}

inline void merge_rows(Bench& bench, std::int64_t rows, std::int64_t cols) {
  DeviceLane& lane = bench.lane();
  for (const std::int64_t rank : {16, 32, 64}) {
    Weights weights(bench, rows, cols, rank, weights_in_turn);
    const auto [copied, merged, in_place] =
        bench.in_turn([&](std::int64_t i) { lane.copy(weights.out(i), weights.own(i), weights.bytes()); },
                      [&](std::int64_t i) {
                        const kernels::LowRankTerm term = weights.term(i);
                        lane.merge(weights.base(i), {&term, 1}, weights.out(i), {});
                      },
                      [&](std::int64_t i) { // to and fro, so that values stay as large as they are
                        const kernels::LowRankTerm term =
                            weights.term(i, i / weights_in_turn % 2 == 0 ? 1.0f : -1.0f);
                        lane.merge(weights.base(i), {&term, 1}, weights.own(i), {});
                      });
    const auto add = [&](const char* how, const char* words, double time) {
      bench.table().add({.key = concat("merge.", rows, "x", cols, ".r", rank, ".", how),
                         .what = concat("merge ", rows, " x ", cols, " bf16, r = ", rank, ", ", words),
                         .value = rate(weights.bytes(), time),
                         .unit = "GB/s",
                         .reference = rate(weights.bytes(), copied),
                         .reference_is = "copying the weight",
                         .goal = ratio_at_least(0.80)});
    };
    add("out_of_place", "out of place", merged);
    add("in_place", "in place", in_place);
  }
}

/// All modules of `program`'s blocks out of place, one merge after the other: as many blocks as there is memory for, and
/// the time for all.
inline void merge_all_row(Bench& bench, const Program& program, std::int64_t rank) {
  const std::int64_t all_blocks = program.slots[0].copies;
  std::int64_t base_bytes = 0;
  std::int64_t factor_bytes = 0;
  for (const SlotEntry& slot : program.slots) {
    base_bytes += on_device_boundary(slot.out * slot.in * 2);
    factor_bytes += on_device_boundary(rank * slot.in * 2) + on_device_boundary(slot.out * rank * 2);
  }
  const std::int64_t free =
      bench.gpu().free_bytes() - (std::int64_t{4} << 30); // for the driver and libraries
  const std::int64_t fitting = free / (2 * base_bytes + factor_bytes);
  const std::int64_t blocks =
      bench.tiny() ? all_blocks : std::clamp<std::int64_t>(fitting, 1, all_blocks); // free unknown: one
  Buffer base = bench.bytes(blocks * base_bytes);
  Buffer out = bench.bytes(blocks * base_bytes);
  Buffer factors = bench.bytes(blocks * factor_bytes);
  bench.fill(base.data(), base.bytes());
  bench.fill(factors.data(), factors.bytes());
  const auto merge_all = [&](std::int64_t) {
    std::int64_t at = 0;
    const std::byte* factor = factors.data();
    for (std::int64_t block = 0; block < blocks; ++block)
      for (const SlotEntry& slot : program.slots) {
        kernels::LowRankTerm term;
        term.a = {factor, bf16, rank, slot.in, slot.in};
        factor += on_device_boundary(term.a.bytes());
        term.b = {factor, bf16, slot.out, rank, rank};
        factor += on_device_boundary(term.b.bytes());
        bench.lane().merge({base.data() + at, bf16, slot.out, slot.in, slot.in}, {&term, 1}, out.data() + at,
                           {});
        at += on_device_boundary(slot.out * slot.in * 2);
      }
  };
  const auto [merged, copied] = bench.in_turn(
      merge_all, [&](std::int64_t) { bench.lane().copy(out.data(), base.data(), base.bytes()); });
  const double scale = static_cast<double>(all_blocks) / static_cast<double>(blocks);
  const auto gigabytes = static_cast<std::int64_t>(2e-9 * static_cast<double>(base.bytes()) * scale + 0.5);
  bench.table().add(
      {.key = "merge_all",
       .what =
           concat("merge all ", std::ssize(program.slots) * all_blocks, " modules of Wan 14B, r = ", rank),
       .value = merged * scale * 1e3,
       .unit = "ms",
       .reference = copied * scale * 1e3,
       .reference_is = concat("copying them, ", gigabytes, " GB read and written"),
       .goal = at_most(20),
       .note = blocks == all_blocks ? "all blocks in memory" : concat("scaled from ", blocks, " blocks")});
}

} // namespace tenon::bench

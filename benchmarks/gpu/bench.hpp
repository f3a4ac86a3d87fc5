// SPDX-License-Identifier: Apache-2.0
// What all rows of bench_gpu share: the device, a lane to it, device memory with values in it, and how times are taken.
#pragma once

#include <tenon/gpu.hpp>

#include "../wan_files.hpp"
#include "table.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tenon::bench {

inline constexpr Config on_gpu{.memory = MemorySpace::device};

template <class F>
[[nodiscard]] double seconds(F f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

[[nodiscard]] inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

class Bench {
 public:
  static constexpr int rounds = 21; ///< of each time; the median counts

  explicit Bench(bool tiny)
      : gpu_(DefaultDevice<MemorySpace::device>::open()), tiny_(tiny),
        memory_(host_.on_device(gpu_->memory(), gpu_->name())), lane_(gpu_->make_lane(host_)),
        table_(concat(gpu_->name(), tiny ? ", tiny sizes: no figures" : ""),
               !tiny && gpu_->name().starts_with("CUDA")) {
    const Values values(1, 0.02f);
    values_ = bytes(std::ssize(values.all()));
    lane_->upload(values_.data(), values.all());
  }

  [[nodiscard]] bool tiny() const noexcept { return tiny_; }
  [[nodiscard]] Device& gpu() noexcept { return *gpu_; }
  [[nodiscard]] DeviceLane& lane() noexcept { return *lane_; }
  [[nodiscard]] Ledger& ledger() noexcept { return host_; }
  [[nodiscard]] Ledger& memory() noexcept { return memory_; }
  [[nodiscard]] Table& table() noexcept { return table_; }
  /// GB/s, read and written, of copies on the device; the row that measures it comes first.
  double copy_rate = 0;

  /// Device memory.
  [[nodiscard]] Buffer bytes(std::int64_t count) {
    return Buffer(memory_, Category::workspace, count, "hold a benchmark's bytes");
  }
  [[nodiscard]] Buffer pinned(std::int64_t count) {
    return Buffer(host_, Category::workspace, count, "hold a benchmark's bytes", gpu_->pinned_memory());
  }
  /// Normal values in bf16 to device memory; each call goes on in the same numbers where the last one ended.
  void fill(std::byte* to, std::int64_t count) {
    while (count > 0) {
      if (at_ == values_.bytes()) at_ = 0;
      const std::int64_t part = std::min(count, values_.bytes() - at_);
      lane_->copy(to, values_.data() + at_, part);
      at_ += part;
      to += part;
      count -= part;
    }
  }

  /// Seconds of one call of each `f(i)`, which puts its work on `lane`, i counting its calls. In each round every one is
  /// called as often in a row as takes some milliseconds, and the lane is waited for once: what a launch or a wait costs
  /// the processor is not in it unless the device is done sooner. Medians over the rounds.
  template <class... F>
  [[nodiscard]] std::array<double, sizeof...(F)> in_turn(DeviceLane& lane, F... f) {
    std::array<double, sizeof...(F)> medians{};
    std::array<Series, sizeof...(F)> series{};
    std::size_t at = 0;
    (begin(lane, series[at++], f), ...);
    for (int round = 0; round < rounds; ++round) {
      at = 0;
      (go_on(lane, series[at++], f), ...);
    }
    for (at = 0; at < medians.size(); ++at) medians[at] = median(std::move(series[at].times));
    return medians;
  }
  template <class... F>
  [[nodiscard]] std::array<double, sizeof...(F)> in_turn(F... f) {
    return in_turn(*lane_, f...);
  }

 private:
  struct Series {
    std::int64_t in_a_row = 1;
    std::int64_t calls = 0;
    std::vector<double> times{};
  };
  template <class F>
  [[nodiscard]] static double run(DeviceLane& lane, Series& series, F& f) {
    return seconds([&] {
      for (std::int64_t i = 0; i < series.in_a_row; ++i) f(series.calls++);
      lane.wait();
    });
  }
  template <class F>
  void begin(DeviceLane& lane, Series& series, F& f) {
    lane.wait();
    static_cast<void>(run(lane, series, f)); // the first call may load code and choose kernels
    const double once = run(lane, series, f);
    series.in_a_row =
        std::clamp<std::int64_t>(static_cast<std::int64_t>((tiny_ ? 1e-4 : 5e-3) / once), 1, 1000);
    static_cast<void>(run(lane, series, f));
  }
  template <class F>
  static void go_on(DeviceLane& lane, Series& series, F& f) {
    const double all = run(lane, series, f);
    series.times.push_back(all / static_cast<double>(series.in_a_row));
  }

  Ledger host_{};
  std::shared_ptr<Device> gpu_;
  bool tiny_;
  Ledger& memory_;
  std::unique_ptr<DeviceLane> lane_;
  Table table_;
  Buffer values_{};
  std::int64_t at_ = 0;
};

} // namespace tenon::bench

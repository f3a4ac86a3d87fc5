// SPDX-License-Identifier: Apache-2.0
// Timing two things in turn, in one process, so that a slow minute of a shared machine falls on both.
#pragma once

#include <benchmark/benchmark.h>

#include <time.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

namespace tenon::bench {

template <class F>
[[nodiscard]] double seconds(F f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// By this thread's own clock, so that what other programs take of the processor is no part of it.
template <class F>
[[nodiscard]] double thread_seconds(F f) {
  const auto now = [] {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  };
  const double start = now();
  f();
  return now() - start;
}

[[nodiscard]] inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Runs `ours` and each of `references` once a round; what Google Benchmark reports is the time of `ours`.
/// Returns the medians, ours first.
template <class Ours, class... References>
[[nodiscard]] std::vector<double> in_turn(benchmark::State& state, Ours ours, References... references) {
  std::vector<std::vector<double>> times(1 + sizeof...(References));
  ours(); // warm
  for (auto round : state) {
    static_cast<void>(round);
    times[0].push_back(seconds(ours));
    state.SetIterationTime(times[0].back());
    std::size_t next = 1;
    (times[next++].push_back(seconds(references)), ...);
  }
  std::vector<double> medians;
  for (const std::vector<double>& list : times) medians.push_back(median(list));
  return medians;
}

} // namespace tenon::bench

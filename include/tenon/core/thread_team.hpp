// SPDX-License-Identifier: Apache-2.0
// A few threads that take the parts of one job in turn: the caller's own and `threads - 1` others, which sleep
// between jobs. Which thread takes which part is left to chance, so a job's parts must not depend on it. A
// job allocates nothing and costs some microseconds beside its parts. One job at a time; teams of two
// sessions are independent.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>

#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace tenon {

/// Immovable: its threads point at it.
class ThreadTeam {
 public:
  /// `part` of the job, done by `thread` of the team (0 is the caller of `run`).
  using Part = void (*)(void* job, std::int64_t part, int thread) noexcept;

  /// Throws `error{bad_argument}` for less than one thread and `error{out_of_memory}` where the system has no
  /// more of them.
  explicit ThreadTeam(int threads) {
    if (threads < 1 || threads > max_threads)
      throw error(ErrorCode::bad_argument, concat("threads: expected 1 to ", max_threads, ", got ", threads));
    workers_.reserve(static_cast<std::size_t>(threads - 1));
    try {
      for (int thread = 1; thread < threads; ++thread)
        workers_.emplace_back([this, thread] { work(thread); });
    } catch (const std::system_error& refusal) {
      end();
      throw error(ErrorCode::out_of_memory, concat("threads: the system started ", workers_.size() + 1,
                                                   " of ", threads, ": ", refusal.what()));
    }
  }
  ~ThreadTeam() { end(); }
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  static constexpr int max_threads = 1024;

  [[nodiscard]] int threads() const noexcept { return static_cast<int>(workers_.size()) + 1; }

  /// Does the parts [0, parts) of a job, each once, and returns when all are done.
  void run(std::int64_t parts, Part part, void* job) noexcept {
    if (parts <= 0) return;
    part_ = part;
    job_ = job;
    unfinished_.store(static_cast<std::uint32_t>(parts), std::memory_order_relaxed);
    unclaimed_.store(parts, std::memory_order_release); // the job is complete: whoever claims a part sees it
    jobs_.fetch_add(1, std::memory_order_release);
    jobs_.notify_all();
    do_parts(0);
    for (std::uint32_t left = unfinished_.load(std::memory_order_acquire); left != 0;
         left = unfinished_.load(std::memory_order_acquire))
      wait_for_change(unfinished_, left);
  }

 private:
  /// Parts are claimed by counting down; below zero there is none, and whoever comes late reads nothing else.
  void do_parts(int thread) noexcept {
    for (std::int64_t left = unclaimed_.fetch_sub(1, std::memory_order_acquire); left > 0;
         left = unclaimed_.fetch_sub(1, std::memory_order_acquire)) {
      part_(job_, left - 1, thread);
      if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
    }
  }

  void work(int thread) noexcept {
    for (std::uint32_t seen = 0;;) {
      wait_for_change(jobs_, seen);
      seen = jobs_.load(std::memory_order_acquire);
      if (ended_.load(std::memory_order_relaxed)) return;
      do_parts(thread);
    }
  }

  /// Looks for a few microseconds, since the next job is often there by then, and then sleeps.
  static void wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t from) noexcept {
    for (int i = 0; i < 1000; ++i) {
      if (value.load(std::memory_order_acquire) != from) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    value.wait(from, std::memory_order_acquire);
  }

  void end() noexcept {
    ended_.store(true, std::memory_order_relaxed);
    jobs_.fetch_add(1, std::memory_order_release);
    jobs_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  Part part_ = nullptr;
  void* job_ = nullptr;
  alignas(64) std::atomic<std::int64_t> unclaimed_{0};
  alignas(64) std::atomic<std::uint32_t> unfinished_{0};
  alignas(64) std::atomic<std::uint32_t> jobs_{0};
  std::atomic<bool> ended_{false};
  std::vector<std::thread> workers_{};
};

} // namespace tenon

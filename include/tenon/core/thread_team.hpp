// SPDX-License-Identifier: Apache-2.0
// A few threads that take the parts of one job in turn: the caller's own and `threads - 1` others, which sleep
// between jobs. Which thread takes which part is left to chance, so a job's parts must not depend on it. A
// job allocates nothing and costs some microseconds beside its parts. One job at a time; teams of two
// sessions are independent.
#pragma once

#include <tenon/core/compiled.hpp>

#include <cstdint>
#include <memory>

#if TENON_HAS_BODIES // <thread> costs a translation unit more than all of this floor
#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>

#include <atomic>
#include <system_error>
#include <thread>
#include <vector>
#endif

namespace tenon {

/// Immovable.
class ThreadTeam {
 public:
  /// `part` of the job, done by `thread` of the team (0 is the caller of `run`).
  using Part = void (*)(void* job, std::int64_t part, int thread) noexcept;

  /// Throws `error{bad_argument}` for less than one thread and `error{out_of_memory}` where the system has no
  /// more of them.
  TENON_INLINE explicit ThreadTeam(int threads);
  TENON_INLINE ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  static constexpr int max_threads = 1024;

  [[nodiscard]] int threads() const noexcept { return threads_; }

  /// Does the parts [0, parts) of a job, each once, and returns when all are done.
  TENON_INLINE void run(std::int64_t parts, Part part, void* job) noexcept;

 private:
  struct Crew; // the other threads, and what they share with the caller's

  int threads_;
  std::unique_ptr<Crew> crew_;
};

#if TENON_HAS_BODIES
struct ThreadTeam::Crew {
  Part part = nullptr;
  void* job = nullptr;
  alignas(64) std::atomic<std::int64_t> unclaimed{0};
  alignas(64) std::atomic<std::uint32_t> unfinished{0};
  alignas(64) std::atomic<std::uint32_t> jobs{0};
  std::atomic<bool> ended{false};
  std::vector<std::thread> workers{};

  /// Parts are claimed by counting down; below zero there is none, and whoever comes late reads nothing else.
  void do_parts(int thread) noexcept {
    for (std::int64_t left = unclaimed.fetch_sub(1, std::memory_order_acquire); left > 0;
         left = unclaimed.fetch_sub(1, std::memory_order_acquire)) {
      part(job, left - 1, thread);
      if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished.notify_one();
    }
  }

  void work(int thread) noexcept {
    for (std::uint32_t seen = 0;;) {
      wait_for_change(jobs, seen);
      seen = jobs.load(std::memory_order_acquire);
      if (ended.load(std::memory_order_relaxed)) return;
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

  void call() noexcept {
    jobs.fetch_add(1, std::memory_order_release);
    jobs.notify_all();
  }

  ~Crew() {
    ended.store(true, std::memory_order_relaxed);
    call();
    for (std::thread& worker : workers) worker.join();
  }
};

TENON_INLINE ThreadTeam::ThreadTeam(int threads) : threads_(threads) {
  if (threads < 1 || threads > max_threads)
    throw error(ErrorCode::bad_argument, concat("threads: expected 1 to ", max_threads, ", got ", threads));
  crew_ = std::make_unique<Crew>();
  std::vector<std::thread>& workers = crew_->workers;
  workers.reserve(static_cast<std::size_t>(threads - 1));
  try {
    for (int thread = 1; thread < threads; ++thread)
      workers.emplace_back([crew = crew_.get(), thread] { crew->work(thread); });
  } catch (const std::system_error& refusal) {
    throw error(ErrorCode::out_of_memory, concat("threads: the system started ", workers.size() + 1, " of ",
                                                 threads, ": ", refusal.what()));
  }
}
TENON_INLINE ThreadTeam::~ThreadTeam() = default;

TENON_INLINE void ThreadTeam::run(std::int64_t parts, Part part, void* job) noexcept {
  if (parts <= 0) return;
  Crew& crew = *crew_;
  crew.part = part;
  crew.job = job;
  crew.unfinished.store(static_cast<std::uint32_t>(parts), std::memory_order_relaxed);
  crew.unclaimed.store(parts,
                       std::memory_order_release); // the job is complete: whoever claims a part sees it
  crew.call();
  crew.do_parts(0);
  for (std::uint32_t left = crew.unfinished.load(std::memory_order_acquire); left != 0;
       left = crew.unfinished.load(std::memory_order_acquire))
    Crew::wait_for_change(crew.unfinished, left);
}
#endif

} // namespace tenon

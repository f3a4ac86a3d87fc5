// SPDX-License-Identifier: Apache-2.0
// Who does a kernel's work: the calling thread, or a team of threads with a scratch each. A kernel that can
// be cut takes `Workers`, and a Scratch is one with a single thread. What a kernel computes never depends on
// how its work is cut: a part is whole rows, columns or elements, and each is added up in one part, in one
// order. Nothing here allocates.
#pragma once

#include <tenon/core/thread_team.hpp>
#include <tenon/kernels/scratch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// Operations in a part, at least: less is done sooner than a sleeping thread wakes.
inline constexpr std::int64_t least_part_cost = 200'000;

/// Taken by value as a Scratch is: what a kernel takes is given back when it returns.
class Workers {
 public:
  /// The calling thread, without scratch.
  Workers() noexcept = default;
  // NOLINTNEXTLINE(google-explicit-constructor): one thread's scratch is what most callers have
  Workers(Scratch own) noexcept : own_(own) {}
  /// `others` holds the scratch of the team's other threads, one after the other, `each` bytes for each.
  Workers(Scratch own, ThreadTeam* team, std::span<std::byte> others, std::int64_t each) noexcept
      : own_(own), team_(team), others_(others), each_(each) {}

  [[nodiscard]] int threads() const noexcept { return team_ == nullptr ? 1 : team_->threads(); }
  /// The calling thread's.
  [[nodiscard]] Scratch scratch() const noexcept { return own_; }
  template <class T>
  [[nodiscard]] std::span<T> take(std::int64_t n) noexcept {
    return own_.take<T>(n);
  }

  /// `f(first, count, scratch)` for ranges that cover [0, total): each but the last a multiple of `step`, all
  /// of about the same size, and large enough to be worth a thread at `cost` operations for each of the
  /// total. They may run at the same time; `f` must not throw.
  template <class F>
  void share(std::int64_t total, std::int64_t step, std::int64_t cost, F f) const noexcept {
    if (total <= 0) return;
    const std::int64_t steps = (total + step - 1) / step;
    const std::int64_t worth = std::max<std::int64_t>(total * cost / least_part_cost, 1);
    const std::int64_t parts = std::min({steps, worth, std::int64_t{threads()} * 4});
    if (team_ == nullptr || parts == 1) return f(std::int64_t{0}, total, own_);
    const std::int64_t size = (steps + parts - 1) / parts * step;
    Job<F> job{&f, this, total, size};
    team_->run((total + size - 1) / size, &Job<F>::run, &job);
  }

 private:
  template <class F>
  struct Job {
    F* f;
    const Workers* workers;
    std::int64_t total;
    std::int64_t size;
    static void run(void* job, std::int64_t part, int thread) noexcept {
      const Job& self = *static_cast<const Job*>(job);
      const std::int64_t first = part * self.size;
      (*self.f)(first, std::min(self.size, self.total - first), self.workers->scratch_of(thread));
    }
  };

  [[nodiscard]] Scratch scratch_of(int thread) const noexcept {
    if (thread == 0) return own_;
    const auto size = static_cast<std::size_t>(each_);
    return Scratch(others_.subspan(static_cast<std::size_t>(thread - 1) * size, size));
  }

  Scratch own_{};
  ThreadTeam* team_ = nullptr;
  std::span<std::byte> others_{};
  std::int64_t each_ = 0;
};

} // namespace tenon::kernels

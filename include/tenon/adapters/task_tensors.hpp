// SPDX-License-Identifier: Apache-2.0
// Several tensors of one shape made into one, element by element, after some of their elements were dropped: by
// magnitude (keep the largest), or at random with the rest enlarged (DARE, arXiv 2311.03099), then summed with
// weights, or merged where they agree with the elected sign (TIES, arXiv 2306.01708). The rules are those of PEFT's
// utils/merge_utils.py: signs are elected before weights are applied, and a merged element is the weighted sum
// of those that agree, divided by how many there are. Cost: a few passes over the elements. Any thread.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace tenon {

/// One of the tensors; `keep[i]` of 0 drops an element, no `keep` drops none.
struct TaskTensor {
  std::span<const float> values{};
  std::span<const std::uint8_t> keep{};
  double weight = 1;
  double enlarge = 1; ///< what kept elements are multiplied by: 1 / density of DARE

  [[nodiscard]] double kept(std::size_t i) const noexcept {
    return keep.empty() || keep[i] != 0 ? static_cast<double>(values[i]) * enlarge : 0.0;
  }
};

/// How an element's sign is elected: not at all, by the sum of the values, or by the number of either sign.
enum class SignElection : std::uint8_t { none, total, frequency };

/// Throws `error{bad_argument}` unless `density` is in (0, 1].
inline void check_density(double density) {
  if (!(density > 0 && density <= 1))
    throw error(ErrorCode::bad_argument,
                concat("density: expected a share above 0 and up to 1, got ", std::to_string(density)));
}

/// 1 for the int(density * n) elements of the largest magnitude, 0 for the others; of equal ones the first are kept.
[[nodiscard]] inline std::vector<std::uint8_t> keep_largest(std::span<const float> values, double density) {
  check_density(density);
  std::vector<std::uint8_t> keep(values.size(), 1);
  const auto count = static_cast<std::size_t>(density * static_cast<double>(values.size()));
  if (count == values.size()) return keep;
  if (count == 0) {
    std::fill(keep.begin(), keep.end(), std::uint8_t{0});
    return keep;
  }
  std::vector<float> sizes(values.size());
  std::transform(values.begin(), values.end(), sizes.begin(), [](float x) { return std::abs(x); });
  const auto last = sizes.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(sizes.begin(), last, sizes.end(), std::greater<>());
  const float least = *last;
  auto of_least = static_cast<std::ptrdiff_t>(count) -
                  std::count_if(sizes.begin(), last, [least](float x) { return x > least; });
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float size = std::abs(values[i]);
    if (!(size > least) && !(size == least && of_least-- > 0)) keep[i] = 0;
  }
  return keep;
}

/// 1 with probability `density`, independently: a function of the seed and the element's number alone (splitmix64).
[[nodiscard]] inline std::vector<std::uint8_t> keep_at_random(std::size_t count, double density,
                                                              std::uint64_t seed) {
  check_density(density);
  std::vector<std::uint8_t> keep(count);
  for (std::size_t i = 0; i < count; ++i) {
    std::uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    keep[i] = static_cast<double>((z ^ (z >> 31U)) >> 11U) * 0x1p-53 < density ? 1 : 0;
  }
  return keep;
}

/// Element `i` of the merged tensor.
[[nodiscard]] inline double merged_element(std::span<const TaskTensor> tasks, SignElection election,
                                           std::size_t i) noexcept {
  double sum = 0;
  if (election == SignElection::none) {
    for (const TaskTensor& task : tasks) sum += task.weight * task.kept(i);
    return sum;
  }
  double votes = 0;
  for (const TaskTensor& task : tasks) {
    const double x = task.kept(i);
    votes += election == SignElection::total ? x : static_cast<double>((x > 0) - (x < 0));
  }
  double agreeing = 0;
  for (const TaskTensor& task : tasks) {
    const double x = task.kept(i);
    if (votes >= 0 ? !(x > 0) : !(x < 0)) continue;
    sum += task.weight * x;
    ++agreeing;
  }
  return sum / std::max(agreeing, 1.0);
}

/// The merged tensor, each element rounded once. Precondition: as many values in each as in `out`.
inline void merge_tasks(std::span<const TaskTensor> tasks, SignElection election,
                        std::span<float> out) noexcept {
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<float>(merged_element(tasks, election, i));
}

} // namespace tenon

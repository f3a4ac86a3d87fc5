// SPDX-License-Identifier: Apache-2.0
// Sorting a vector of anything through one instantiation of std::sort, over positions; one for each type and
// comparison would be compiled in every translation unit. Stable. Cost: n log n comparisons through a pointer,
// and one move of each element.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace tenon {

/// The positions 0 ... count-1 in the order of `is_less(list, i, j)`, equal ones as they stand.
[[nodiscard]] inline std::vector<std::size_t> sorted_positions(std::size_t count, const void* list,
                                                               bool (*is_less)(const void*, std::size_t,
                                                                               std::size_t)) {
  std::vector<std::size_t> positions(count);
  for (std::size_t i = 0; i < count; ++i) positions[i] = i;
  std::sort(positions.begin(), positions.end(), [list, is_less](std::size_t a, std::size_t b) {
    return is_less(list, a, b) || (a < b && !is_less(list, b, a));
  });
  return positions;
}

/// Sorts `list` by `Less`, a stateless function of two elements.
template <class T, class Less>
void sort_by(std::vector<T>& list, Less) {
  const auto positions =
      sorted_positions(list.size(), &list, [](const void* of, std::size_t a, std::size_t b) {
        const auto& elements = *static_cast<const std::vector<T>*>(of);
        return static_cast<bool>(Less()(elements[a], elements[b]));
      });
  std::vector<T> sorted;
  sorted.reserve(list.size());
  for (const std::size_t at : positions) sorted.push_back(std::move(list[at]));
  list = std::move(sorted);
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// How many slots of a net have a path that ends with one of some names, at compile time: what a trainer's list of target
// modules comes to.
#pragma once

#include <tenon/graph/tables.hpp>

#include <array>
#include <initializer_list>
#include <span>
#include <string_view>

namespace tenon::test {

template <class Net>
[[nodiscard]] constexpr std::int64_t slots_named(std::span<const std::string_view> names) {
  std::int64_t count = 0;
  for (const SlotInfo& slot : slots<Net>)
    for (const std::string_view name : names)
      if (slot.path.ends_with(name) &&
          (slot.path.size() == name.size() || slot.path[slot.path.size() - name.size() - 1] == '.')) {
        count += slot.copies;
        break;
      }
  return count;
}
template <class Net>
[[nodiscard]] constexpr std::int64_t slots_named(std::initializer_list<std::string_view> names) {
  return slots_named<Net>(std::span<const std::string_view>(names.begin(), names.size()));
}

} // namespace tenon::test

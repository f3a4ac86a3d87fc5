// SPDX-License-Identifier: Apache-2.0
// "Did you mean": the existing name that a mistyped one is closest to, by edit distance (insert, delete,
// replace, or swap of two neighbours cost 1 each: the optimal string alignment distance).
// Cost: time |wanted| * |name| for each name offered, 3 KiB of stack, no allocation; paid on the way to an
// error only. Threads: no shared state.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace tenon {

/// Longer names are compared by their last `nearest_length` bytes: where tensor names differ is at the end.
inline constexpr std::size_t nearest_length = 128;

/// Edits that turn `a` into `b`, or `limit` if there are that many or more.
/// Precondition: both at most `nearest_length` bytes.
[[nodiscard]] constexpr std::size_t edit_distance(std::string_view a, std::string_view b,
                                                  std::size_t limit) noexcept {
  const std::size_t longer = a.size() > b.size() ? a.size() - b.size() : b.size() - a.size();
  if (longer >= limit) return limit;
  std::array<std::array<std::size_t, nearest_length + 1>, 3> rows{};
  auto* two_up = &rows[0];
  auto* up = &rows[1];
  auto* row = &rows[2];
  for (std::size_t j = 0; j <= b.size(); ++j) (*up)[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    (*row)[0] = i;
    std::size_t best = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t edits = (*up)[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      if ((*up)[j] + 1 < edits) edits = (*up)[j] + 1;
      if ((*row)[j - 1] + 1 < edits) edits = (*row)[j - 1] + 1;
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped && (*two_up)[j - 2] + 1 < edits) edits = (*two_up)[j - 2] + 1;
      (*row)[j] = edits;
      if (edits < best) best = edits;
    }
    if (best > limit) return limit; // a later row costs at least this one's best less a swap
    auto* const oldest = two_up;
    two_up = up;
    up = row;
    row = oldest;
  }
  return (*up)[b.size()] < limit ? (*up)[b.size()] : limit;
}

/// Keeps the nearest of the names it is offered; the first of equals.
class NearestName {
 public:
  /// Names that differ in more than half of `wanted` are not near it.
  explicit constexpr NearestName(std::string_view wanted) noexcept
      : wanted_(tail(wanted)), distance_(wanted_.size() / 2 + 1) {}

  constexpr void offer(std::string_view name) noexcept {
    const std::size_t distance = edit_distance(wanted_, tail(name), distance_);
    if (distance >= distance_) return;
    distance_ = distance;
    best_ = name;
  }
  /// Empty if nothing near was offered; views the name that was.
  [[nodiscard]] constexpr std::string_view best() const noexcept { return best_; }

 private:
  static constexpr std::string_view tail(std::string_view name) noexcept {
    return name.size() <= nearest_length ? name : name.substr(name.size() - nearest_length);
  }

  std::string_view wanted_;
  std::size_t distance_;
  std::string_view best_{};
};

/// The name in `names` (any range of strings) nearest to `wanted`, or an empty view if none is near.
template <class Names>
[[nodiscard]] constexpr std::string_view nearest_name(std::string_view wanted, const Names& names) noexcept {
  NearestName nearest(wanted);
  for (const auto& name : names) nearest.offer(name);
  return nearest.best();
}

} // namespace tenon

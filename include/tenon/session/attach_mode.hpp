// SPDX-License-Identifier: Apache-2.0
// The ways an adapter can be attached, as tags for `Session::attach<Mode>`. All give the base back bit for
// bit.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace tenon {

enum class AttachMode : std::uint8_t { side_path, merged, in_place };

[[nodiscard]] constexpr std::string_view attach_mode_name(AttachMode mode) noexcept {
  constexpr std::array<std::string_view, 3> names{"side path", "merged", "in place"};
  return names[static_cast<std::size_t>(mode)];
}

/// Adds s (x A^T) B^T beside each product: exact, no weight memory.
struct side_path {
  static constexpr AttachMode mode = AttachMode::side_path;
};
/// An overlay holds W + s B A, written out of place in one pass: no cost per product, the changed weights'
/// bytes.
struct merged {
  static constexpr AttachMode mode = AttachMode::merged;
};
/// W + s B A is written over a base that the model holds in memory of its own (`OpenOptions::own_weights`):
/// no cost per product, no weight memory; the end of the guard copies the weights from their source again.
struct in_place {
  static constexpr AttachMode mode = AttachMode::in_place;
};
/// One of the others, by the rule of `choose_mode`.
struct automatic {};

/// An argument of `attach`: a merge then measures, in the same pass, what rounding to the weights' type costs
/// it; see `Guard::loss`.
struct MeasureLoss {};
inline constexpr MeasureLoss measure_loss{};

/// What `attach<automatic>` is told.
struct Expect {
  /// Rows (tokens, over all sequences of all batches) that will go through the net while the guard lives.
  std::int64_t rows = 0;
  /// Whether a merge may round to 16-bit weights. If not, only float weights are ever merged; but for what a device
  /// computes in no other way.
  bool accept_rounding = false;
};

} // namespace tenon

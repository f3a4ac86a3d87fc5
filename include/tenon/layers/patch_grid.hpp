// SPDX-License-Identifier: Apache-2.0
// The patches of a convolution's step, from the shapes of its wires and weight: for its function on the host and for that
// on a device.
#pragma once

#include <tenon/graph/step.hpp>
#include <tenon/kernels/patches.hpp>

namespace tenon {

/// params.integers: stride and padding, depth first. x [batch, (depth,) height, width, channels]; the weight [out,
/// channels, (depth,) height, width].
[[nodiscard]] inline kernels::PatchGrid patch_grid(const StepContext& context) noexcept {
  const WireView& x = context.inputs[0];
  const TensorView& w = context.weights[0];
  const auto& n = context.params.integers;
  const bool has_depth = x.rank == 5;
  const int plane = has_depth ? 2 : 1; // the axis of the height
  return {.batch = x.extent(0),
          .image = {has_depth ? x.extent(1) : 1, x.extent(plane), x.extent(plane + 1)},
          .channels = x.width(),
          .kernel = {has_depth ? w.extent(2) : 1, w.extent(plane + 1), w.extent(plane + 2)},
          .stride = {n[0], n[1], n[2]},
          .padding = {n[3], n[4], n[5]}};
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// GroupNorm<"name", Groups, C>: (x - mean) / sqrt(var + eps) * weight + bias, mean and variance over an image's
// positions and the channels of one group (Wu and He 2018, arXiv 1803.08494); weights `name.weight` and `name.bias`
// [c], as torch.nn.GroupNorm's. Channels are last.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/op.hpp>
#include <tenon/kernels/group_norm.hpp>
#include <tenon/layers/norm.hpp>

#include <cstdint>
#include <span>

namespace tenon {

/// params.integers[0]: groups; params.reals[0]: epsilon.
inline void group_norm_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  kernels::Workers workers = context.workers;
  const NormWeights weights = norm_weights(context, workers);
  kernels::group_norm(x.const_matrix(), x.extent(0), weights.weight, weights.bias, context.params.integers[0],
                      context.params.reals[0], context.output.matrix(), workers);
}

template <bool HasSlot>
std::int64_t group_norm_step_scratch(const StepContext& context) {
  const std::int64_t channels = context.inputs[0].width();
  return kernels::scratch_sum({kernels::group_norm_scratch_bytes(channels),
                               norm_weights_scratch_bytes(channels, HasSlot && context.has_deltas)});
}

/// Of images [batch, height, width, c]; with `Axes` 3 [batch, frames, height, width, c], with 1 [batch, tokens, c].
template <fixed_string Name, std::int64_t Groups, std::int64_t C, Epsilon Eps = Epsilon{}, int Axes = 2>
struct GroupNorm {
  static_assert(Groups > 0 && C % Groups == 0, "tenon::GroupNorm: the groups must divide the channels");
  static_assert(Axes >= 1 && Axes <= 3, "tenon::GroupNorm: one, two or three axes beside batch and channels");

  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::grid_of(C, Axes); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const std::size_t mark = builder.enter(Name.view());
    const std::uint32_t kinds = builder.open_kinds(builder.norm_kinds());
    const std::int32_t weight = builder.weight("weight", {C});
    const std::int32_t bias = builder.weight("bias", {C});
    const WireId y = builder.step(
        {.op = "GroupNorm",
         .run = &group_norm_step,
         .scratch = kinds != 0 ? &group_norm_step_scratch<true> : &group_norm_step_scratch<false>,
         .inputs = {wires[0]},
         .output = builder.shape(wires[0]),
         .weights = {weight, bias},
         .slot = builder.slot(kinds, weight, bias),
         .params = {.integers = {Groups}, .reals = {Eps.value}},
         .in_place = 1});
    builder.leave(mark);
    return y;
  }
};

} // namespace tenon

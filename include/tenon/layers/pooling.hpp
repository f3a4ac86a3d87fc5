// SPDX-License-Identifier: Apache-2.0
// MeanPool: the mean of the tokens [batch, tokens, d] -> [batch, d]; with a mask [batch, tokens] only of
// those it marks with one, as sentence-transformers pools.
#pragma once

#include <tenon/graph/op.hpp>
#include <tenon/kernels/pooling.hpp>

namespace tenon {

inline void mean_pool_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const std::span<const float> mask =
      context.inputs.size() > 1 ? context.inputs[1].values() : std::span<const float>{};
  kernels::mean_pool(x.const_matrix(), mask, context.output.matrix());
}

template <std::int64_t D>
struct MeanPool {
  static constexpr std::size_t inputs = 2;
  static constexpr std::size_t required_inputs = 1;
  static constexpr Shape takes(std::size_t input) {
    return input == 0 ? Shape::of({batch_dim, tokens_dim, fixed(D)}) : Shape::of({batch_dim, tokens_dim});
  }
  static constexpr Shape gives(std::span<const Shape>) { return Shape::of({batch_dim, fixed(D)}); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "MeanPool",
                         .run = &mean_pool_step,
                         .inputs = {wires[0], wires.size() > 1 ? wires[1] : no_index},
                         .output = Shape::of({batch_dim, fixed(D)})});
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// SelfAttention<"name", D, Heads>: softmax(q k^T / sqrt(D / Heads)) v per head (Vaswani et al. 2017, arXiv
// 1706.03762), with projections `name.query`, `name.key`, `name.value` [d, d], each a Linear with a slot.
// Reads x [batch, tokens, d] and, where given, a mask [batch, tokens] of ones (read) and zeros (ignore). The
// output projection is a layer of its own, as in BERT. Works by tiles of query rows and never holds tokens x
// tokens.
#pragma once

#include <tenon/kernels/attention.hpp>
#include <tenon/layers/linear.hpp>

namespace tenon {

/// params.integers[0]: heads. Inputs: q, k, v and, optionally, the mask.
inline void attention_step(const StepContext& context) {
  const WireView& q = context.inputs[0];
  const std::span<const float> mask =
      context.inputs.size() > 3 ? context.inputs[3].values() : std::span<const float>{};
  const kernels::AttentionShape shape{
      .batch = q.extent(0), .queries = q.extent(1), .keys = q.extent(1), .heads = context.params.integers[0]};
  kernels::attention(q.const_matrix(), context.inputs[1].const_matrix(), context.inputs[2].const_matrix(),
                     mask, shape, context.output.matrix(), context.workers);
}

inline std::int64_t attention_step_scratch(const StepContext& context) {
  const WireView& q = context.inputs[0];
  return kernels::attention_scratch_bytes(q.extent(1), q.extent(1), q.width() / context.params.integers[0]);
}

/// `Options` are those of its three Linears.
template <fixed_string Name, std::int64_t D, std::int64_t Heads, class... Options>
struct SelfAttention {
  static_assert(Heads > 0 && D % Heads == 0, "tenon::SelfAttention: the heads must divide the width");

  static constexpr std::size_t inputs = 2;
  static constexpr std::size_t required_inputs = 1;
  static constexpr Shape takes(std::size_t input) {
    return input == 0 ? Shape::of({batch_dim, tokens_dim, fixed(D)}) : Shape::of({batch_dim, tokens_dim});
  }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const std::size_t mark = builder.enter(Name.view());
    const WireId q = Linear<"query", D, D, Options...>::lower(builder, wires.first(1));
    const WireId k = Linear<"key", D, D, Options...>::lower(builder, wires.first(1));
    const WireId v = Linear<"value", D, D, Options...>::lower(builder, wires.first(1));
    const WireId y = builder.step({.op = "Attention",
                                   .run = &attention_step,
                                   .scratch = &attention_step_scratch,
                                   .inputs = {q, k, v, wires.size() > 1 ? wires[1] : no_index},
                                   .output = builder.shape(wires[0]),
                                   .params = {.integers = {Heads}}});
    builder.leave(mark);
    return y;
  }
};

} // namespace tenon

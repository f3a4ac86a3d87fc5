// SPDX-License-Identifier: Apache-2.0
// Attention<Heads, Options...>: softmax(scale q k^T + bias) v per head (Vaswani et al. 2017, arXiv 1706.03762) of wires
// q, k, v and, where given, a mask [batch, keys] of ones (read) and zeros (ignore). Keys may be another sequence than
// queries (cross attention). SelfAttention<"name", D, Heads>: the same with BERT's projections `name.query`, `name.key`,
// `name.value`. Works by tiles of query rows and never holds tokens x tokens.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/kernels/attention.hpp>
#include <tenon/layers/attention_keys.hpp>
#include <tenon/layers/linear.hpp>

#include <cstring>

namespace tenon {

/// The heads of an attention: how many, how wide, and how many of k and v that groups of them share (0: each its own).
struct Heads {
  std::int64_t count = 1;
  std::int64_t width = 64;
  std::int64_t shared = 0;

  [[nodiscard]] constexpr std::int64_t all() const { return count * width; }
  [[nodiscard]] constexpr std::int64_t kv() const { return (shared == 0 ? count : shared) * width; }
};

/// Option of Attention: a query reads the keys up to its own place; what a KvCache holds goes before them.
struct Causal {};
/// Option of Attention: the mask, if there is one, is of another sequence, [batch, context].
struct OverContext {};
/// Option of Attention: products are not divided by the root of the head's width (T5).
struct Unscaled {};
/// Option of Attention: adds a learned number for each head and distance, from the table `Name` [buckets, heads] under the
/// attention's path. See kernels::RelativeBias.
template <fixed_string Name, std::int64_t Buckets, std::int64_t MaxDistance>
struct RelativeBias {
  static constexpr std::string_view name = Name.view();
  static constexpr std::int64_t buckets = Buckets;
  static constexpr std::int64_t max_distance = MaxDistance;
  static constexpr bool is_shared = false;
};
/// The same from a table that several attentions share, by its full name in the checkpoint.
template <fixed_string Path, std::int64_t Buckets, std::int64_t MaxDistance>
struct SharedRelativeBias : RelativeBias<Path, Buckets, MaxDistance> {
  static constexpr bool is_shared = true;
};

/// params.integers: query heads, kv heads, whether causal, whether unscaled, the bias's largest distance. Inputs: q, k,
/// v and, optionally, the mask. State: k and v of earlier calls.
TENON_INLINE void attention_step(const StepContext& context);

inline std::int64_t attention_step_scratch(const StepContext& context) {
  const WireView& q = context.inputs[0];
  const std::int64_t keys = context.inputs[1].rows() / q.extent(0);
  return kernels::attention_scratch_bytes(q.rows() / q.extent(0), std::max(keys, context.capacity),
                                          q.width() / context.params.integers[0]);
}

/// q [batch, ..., heads * width], k and v [batch, ..., kv heads * width], mask [batch, keys] -> as q. A mask cannot be
/// given together with a KvCache.
template <Heads H, class... Options>
struct Attention {
  static_assert(H.count > 0 && H.width > 0 && (H.shared == 0 || H.count % H.shared == 0),
                "tenon::Attention: the shared heads of keys and values must divide the heads of queries");
  static constexpr bool is_causal = (std::is_same_v<Options, Causal> || ...);
  static constexpr bool reads_context = (std::is_same_v<Options, OverContext> || ...);
  static constexpr bool is_unscaled = (std::is_same_v<Options, Unscaled> || ...);

  static constexpr std::size_t inputs = 4;
  static constexpr std::size_t required_inputs = 3;
  static constexpr Shape takes(std::size_t input) {
    if (input == 3) return Shape::of({batch_dim, reads_context ? context_dim : tokens_dim});
    return Shape::rows_of(input == 0 ? H.all() : H.kv());
  }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const Shape keys = builder.shape(wires[1]);
    if (builder.shape(wires[0]).rank < 3 || keys.rank < 3)
      throw "tenon::Attention: it reads sequences, [batch, tokens, width] or with more axes";
    if (!(keys == builder.shape(wires[2]))) throw "tenon::Attention: keys and values must have one shape";
    if (wires.size() > 3 && keys.rank == 3 && !(builder.shape(wires[3]).dims[1] == keys.dims[1]))
      throw "tenon::Attention: a mask has one number for each key; see OverContext";
    std::int32_t bias = no_index;
    std::int64_t max_distance = 0;
    [[maybe_unused]] const auto take = [&]<class Option>() {
      if constexpr (requires { Option::max_distance; }) {
        bias = Option::is_shared ? builder.shared_weight(Option::name, {Option::buckets, H.count})
                                 : builder.weight(Option::name, {Option::buckets, H.count});
        max_distance = Option::max_distance;
      }
    };
    (take.template operator()<Options>(), ...);
    return builder.step({.op = "Attention",
                         .run = &attention_step,
                         .scratch = &attention_step_scratch,
                         .inputs = {wires[0], wires[1], wires[2], wires.size() > 3 ? wires[3] : no_index},
                         .output = builder.shape(wires[0]),
                         .weights = {bias},
                         .state = is_causal ? builder.state(2 * H.kv()) : no_index,
                         .params = {.integers = {H.count, H.shared == 0 ? H.count : H.shared,
                                                 is_causal ? 1 : 0, is_unscaled ? 1 : 0, max_distance}}});
  }
};

/// `Options` are those of its three Linears.
template <fixed_string Name, std::int64_t D, std::int64_t Count, class... Options>
struct SelfAttention {
  static_assert(Count > 0 && D % Count == 0, "tenon::SelfAttention: the heads must divide the width");

  static constexpr std::size_t inputs = 2;
  static constexpr std::size_t required_inputs = 1;
  static constexpr Shape takes(std::size_t input) {
    return input == 0 ? Shape::grid_of(D, 1) : Shape::of({batch_dim, tokens_dim});
  }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const std::size_t mark = builder.enter(Name.view());
    std::array<WireId, 4> read{Linear<"query", D, D, Options...>::lower(builder, wires.first(1)),
                               Linear<"key", D, D, Options...>::lower(builder, wires.first(1)),
                               Linear<"value", D, D, Options...>::lower(builder, wires.first(1)),
                               wires.size() > 1 ? wires[1] : no_index};
    const WireId y = Attention<Heads{.count = Count, .width = D / Count}>::lower(
        builder, std::span<const WireId>(read.data(), wires.size() + 2));
    builder.leave(mark);
    return y;
  }
};

#if TENON_HAS_BODIES
/// Writes the keys and values of this call behind those that the state has.
TENON_INLINE void keep_keys(const StepContext& context) {
  const kernels::ConstMatrix k = context.inputs[1].const_matrix();
  const kernels::ConstMatrix v = context.inputs[2].const_matrix();
  const std::int64_t tokens = k.rows / context.inputs[1].extent(0);
  for (std::int64_t i = 0; i < k.rows; ++i) {
    float* const row = context.state.row(i / tokens, context.past + i % tokens);
    std::memcpy(row, k.row(i), static_cast<std::size_t>(k.cols) * sizeof(float));
    std::memcpy(row + k.cols, v.row(i), static_cast<std::size_t>(k.cols) * sizeof(float));
  }
}

TENON_INLINE void attention_step(const StepContext& context) {
  const WireView& q = context.inputs[0];
  const std::span<const float> mask =
      context.inputs.size() > 3 ? context.inputs[3].values() : std::span<const float>{};
  const auto& params = context.params.integers;
  const AttentionKeys keys = attention_keys(context);
  if (context.state.data != nullptr) keep_keys(context);
  kernels::AttentionShape shape{.batch = q.extent(0),
                                .queries = q.rows() / q.extent(0),
                                .keys = keys.count,
                                .heads = params[0],
                                .kv_heads = params[1],
                                .key_stride = keys.stride,
                                .first_query = keys.first_query,
                                .is_causal = params[2] != 0,
                                .scale = params[3] != 0 ? 1.0f : 0.0f};
  if (!context.weights.empty() && context.weights[0].data != nullptr)
    shape.bias = {.table = weight_matrix(context.weights[0]),
                  .max_distance = params[4],
                  .is_bidirectional = params[2] == 0};
  kernels::attention(q.const_matrix(), keys.k, keys.v, mask, shape, context.output.matrix(), context.workers);
}
#endif

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// The blocks of the Wan 2.1 14B image-to-video transformer as a net, with the tensor names of its diffusers
// checkpoint: every linear that adapters are trained for, at its true shape, wired as in the model. It is not
// the whole model: embeddings, time modulation, the RMSNorm of queries and keys, rotary positions and the
// output head are left out, and text and image have as many tokens as the video. So the adapter's modules and
// the bytes of these weights are the model's; its pictures are not.
#pragma once

#include <tenon/tenon.hpp>

namespace tenon::bench {

inline constexpr std::int64_t wan_width = 5120;
inline constexpr std::int64_t wan_heads = 40;
inline constexpr std::int64_t wan_inner = 13824;

/// softmax(q k^T / sqrt(head_dim)) v of three wires [batch, tokens, width].
struct WanHeads {
  static constexpr std::size_t inputs = 3;
  static constexpr Shape takes(std::size_t) { return Shape::of({batch_dim, tokens_dim, fixed(wan_width)}); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "Attention",
                         .run = &attention_step,
                         .scratch = &attention_step_scratch,
                         .inputs = {wires[0], wires[1], wires[2]},
                         .output = builder.shape(wires[0]),
                         .params = {.integers = {wan_heads}}});
  }
};

inline void wan_norm_step(const StepContext& context) {
  kernels::layer_norm(context.inputs[0].const_matrix(), {}, {}, 1e-6, context.output.matrix());
}
/// A LayerNorm without weights, as norm1 and norm3 are.
struct WanNorm : ShapeKeeping<"LayerNorm", &wan_norm_step> {};

template <fixed_string Name>
using WanLinear = Linear<Name, wan_width, wan_width>;

// clang-format off: columns of name, op, wires read as the figure they are
using WanBlock = Graph<Inputs<"x", "text", "image">,
    Let<"self_in",      WanNorm,                                           "x">,
    Let<"self_q",       WanLinear<"attn1.to_q">,                           "self_in">,
    Let<"self_k",       WanLinear<"attn1.to_k">,                           "self_in">,
    Let<"self_v",       WanLinear<"attn1.to_v">,                           "self_in">,
    Let<"self_heads",   WanHeads,                                          "self_q", "self_k", "self_v">,
    Let<"self_out",     WanLinear<"attn1.to_out.0">,                       "self_heads">,
    Let<"seen",         Add,                                               "self_out", "x">,
    Let<"cross_in",     LayerNorm<"norm2", wan_width, Epsilon{1e-6f}>,     "seen">,
    Let<"cross_q",      WanLinear<"attn2.to_q">,                           "cross_in">,
    Let<"text_k",       WanLinear<"attn2.to_k">,                           "text">,
    Let<"text_v",       WanLinear<"attn2.to_v">,                           "text">,
    Let<"text_heads",   WanHeads,                                          "cross_q", "text_k", "text_v">,
    Let<"image_k",      WanLinear<"attn2.add_k_proj">,                     "image">,
    Let<"image_v",      WanLinear<"attn2.add_v_proj">,                     "image">,
    Let<"image_heads",  WanHeads,                                          "cross_q", "image_k", "image_v">,
    Let<"cross_heads",  Add,                                               "text_heads", "image_heads">,
    Let<"cross_out",    WanLinear<"attn2.to_out.0">,                       "cross_heads">,
    Let<"told",         Add,                                               "cross_out", "seen">,
    Let<"ffn_in",       WanNorm,                                           "told">,
    Let<"ffn_inner",    Linear<"ffn.net.0.proj", wan_width, wan_inner>,    "ffn_in">,
    Let<"ffn_active",   GeluTanh,                                          "ffn_inner">,
    Let<"ffn_out",      Linear<"ffn.net.2", wan_inner, wan_width>,         "ffn_active">,
    Let<"y",            Add,                                               "ffn_out", "told">,
    Outputs<"y">>;

/// x, text and image, each [batch, tokens, 5120] -> [batch, tokens, 5120]. Wan 2.1 14B has 40 blocks.
template <std::int64_t Blocks>
using Wan = Graph<Inputs<"x", "text", "image">,
    Let<"y", Repeat<"blocks", Blocks, WanBlock>, "x", "text", "image">,
    Outputs<"y">>;
// clang-format on

static_assert(slot_count<Wan<40>> == 480);
static_assert(adapter_parameters<Wan<40>, LoraOfRank<32>>() == 179'568'640);

} // namespace tenon::bench

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
inline constexpr std::int64_t wan_inner = 13824;

/// softmax(q k^T / sqrt(head_dim)) v of three wires [batch, tokens, width], in heads of 128.
template <std::int64_t Width>
struct WanHeads {
  static constexpr std::size_t inputs = 3;
  static constexpr Shape takes(std::size_t) { return Shape::of({batch_dim, tokens_dim, fixed(Width)}); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "Attention",
                         .run = &attention_step,
                         .scratch = &attention_step_scratch,
                         .inputs = {wires[0], wires[1], wires[2]},
                         .output = builder.shape(wires[0]),
                         .params = {.integers = {Width / 128, Width / 128}}});
  }
};

inline void wan_norm_step(const StepContext& context) {
  kernels::layer_norm(context.inputs[0].const_matrix(), {}, {}, 1e-6, context.output.matrix());
}
/// A LayerNorm without weights, as norm1 and norm3 are.
struct WanNorm : ShapeKeeping<"LayerNorm", &wan_norm_step> {};

// clang-format off: columns of name, op, wires read as the figure they are
template <std::int64_t Width, std::int64_t Inner>
using WanBlock = Graph<Inputs<"x", "text", "image">,
    Let<"self_in",      WanNorm,                                         "x">,
    Let<"self_q",       Linear<"attn1.to_q", Width, Width>,              "self_in">,
    Let<"self_k",       Linear<"attn1.to_k", Width, Width>,              "self_in">,
    Let<"self_v",       Linear<"attn1.to_v", Width, Width>,              "self_in">,
    Let<"self_heads",   WanHeads<Width>,                                 "self_q", "self_k", "self_v">,
    Let<"self_out",     Linear<"attn1.to_out.0", Width, Width>,          "self_heads">,
    Let<"seen",         Add,                                             "self_out", "x">,
    Let<"cross_in",     LayerNorm<"norm2", Width, Epsilon{1e-6f}>,       "seen">,
    Let<"cross_q",      Linear<"attn2.to_q", Width, Width>,              "cross_in">,
    Let<"text_k",       Linear<"attn2.to_k", Width, Width>,              "text">,
    Let<"text_v",       Linear<"attn2.to_v", Width, Width>,              "text">,
    Let<"text_heads",   WanHeads<Width>,                                 "cross_q", "text_k", "text_v">,
    Let<"image_k",      Linear<"attn2.add_k_proj", Width, Width>,        "image">,
    Let<"image_v",      Linear<"attn2.add_v_proj", Width, Width>,        "image">,
    Let<"image_heads",  WanHeads<Width>,                                 "cross_q", "image_k", "image_v">,
    Let<"cross_heads",  Add,                                             "text_heads", "image_heads">,
    Let<"cross_out",    Linear<"attn2.to_out.0", Width, Width>,          "cross_heads">,
    Let<"told",         Add,                                             "cross_out", "seen">,
    Let<"ffn_in",       WanNorm,                                         "told">,
    Let<"ffn_inner",    Linear<"ffn.net.0.proj", Width, Inner>,          "ffn_in">,
    Let<"ffn_active",   GeluTanh,                                        "ffn_inner">,
    Let<"ffn_out",      Linear<"ffn.net.2", Inner, Width>,               "ffn_active">,
    Let<"y",            Add,                                             "ffn_out", "told">,
    Outputs<"y">>;

/// x, text and image, each [batch, tokens, Width] -> as x. Wan 2.1 14B has 40 blocks; another width is for trying out.
template <std::int64_t Blocks, std::int64_t Width = wan_width, std::int64_t Inner = wan_inner>
using Wan = Graph<Inputs<"x", "text", "image">,
    Let<"y", Repeat<"blocks", Blocks, WanBlock<Width, Inner>>, "x", "text", "image">,
    Outputs<"y">>;
// clang-format on

static_assert(slot_count<Wan<40>> == 480);
static_assert(adapter_parameters<Wan<40>, LoraOfRank<32>>() == 179'568'640);

} // namespace tenon::bench

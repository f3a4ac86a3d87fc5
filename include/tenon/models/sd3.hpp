// SPDX-License-Identifier: Apache-2.0
// Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206; diffusers' SD3Transformer2DModel) as a type, with the
// tensor names of diffusers' checkpoints: blocks in which image and text have weights of their own and attend to each
// other. Blocks differ: the first of 3.5 medium attend to the image twice, the last leaves the text where it is.
#pragma once

#include <tenon/layers/channels.hpp>
#include <tenon/layers/convolution.hpp>
#include <tenon/layers/image_patches.hpp>
#include <tenon/layers/tokens.hpp>
#include <tenon/models/diffusion_parts.hpp>

namespace tenon::models {

/// The numbers of a Stable Diffusion 3, as its config.json has them.
struct Sd3Size {
  std::int64_t channels;        ///< in_channels, out_channels
  std::int64_t layers;          ///< num_layers
  Heads heads;                  ///< num_attention_heads, attention_head_dim
  std::int64_t text;            ///< joint_attention_dim
  std::int64_t pooled;          ///< pooled_projection_dim
  std::int64_t side;            ///< pos_embed_max_size
  bool has_qk_norm = false;     ///< qk_norm rms_norm: 3.5
  std::int64_t dual_layers = 0; ///< dual_attention_layers: the first so many

  [[nodiscard]] constexpr std::int64_t width() const { return heads.all(); }
};

inline constexpr Sd3Size sd3_medium{16, 24, {24, 64}, 4096, 2048, 192};
inline constexpr Sd3Size sd35_large{16, 38, {38, 64}, 4096, 2048, 192, true};
inline constexpr Sd3Size sd35_medium{16, 24, {24, 64}, 4096, 2048, 384, true, 13};

/// A projection, its heads normalised in 3.5.
template <Sd3Size S, fixed_string Projection, fixed_string Norm, std::int64_t D = S.width()>
using Sd3Heads = std::conditional_t<S.has_qk_norm, NormedHeads<Projection, Norm, D, S.heads.width>,
                                    Linear<Projection, D, D>>;

// clang-format off: columns of name, op, wires read as the figure they are
/// x [batch, tokens, d], text [batch, context, d] -> heads [batch, tokens + context, d]
template <Sd3Size S, std::int64_t D = S.width()>
using Sd3JointAttention = Graph<Inputs<"x", "text">,
    Let<"q_image", Sd3Heads<S, "to_q", "norm_q">,                "x">,
    Let<"q_text",  Sd3Heads<S, "add_q_proj", "norm_added_q">,    "text">,
    Let<"q",       JoinTokens<D>,                                "q_image", "q_text">,
    Let<"k_image", Sd3Heads<S, "to_k", "norm_k">,                "x">,
    Let<"k_text",  Sd3Heads<S, "add_k_proj", "norm_added_k">,    "text">,
    Let<"k",       JoinTokens<D>,                                "k_image", "k_text">,
    Let<"v_image", Linear<"to_v", D, D>,                         "x">,
    Let<"v_text",  Linear<"add_v_proj", D, D>,                   "text">,
    Let<"v",       JoinTokens<D>,                                "v_image", "v_text">,
    Let<"heads",   Attention<S.heads>,                           "q", "k", "v">,
    Outputs<"heads">>;

/// x [batch, tokens, d] -> the same
template <Sd3Size S, std::int64_t D = S.width()>
using Sd3ImageAttention = Graph<Inputs<"x">,
    Let<"q",     Sd3Heads<S, "to_q", "norm_q">,   "x">,
    Let<"k",     Sd3Heads<S, "to_k", "norm_k">,   "x">,
    Let<"v",     Linear<"to_v", D, D>,            "x">,
    Let<"heads", Attention<S.heads>,              "q", "k", "v">,
    Let<"y",     Linear<"to_out.0", D, D>,        "heads">,
    Outputs<"y">>;

/// The end of a block, for image or text: x, what it attended to, the modulation m.
template <Sd3Size S, fixed_string Name, std::int64_t Parts, std::int64_t D = S.width()>
using Sd3FeedForward = Graph<Inputs<"x", "m">,
    Let<"in",  ModulatedNorm<D, Parts, 4, 3>,                  "x", "m">,
    Let<"fed", Scope<Name, TanhFeedForward<D, 4 * D>>,         "in">,
    Let<"y",   GatedAdd<D, Parts, 5>,                          "x", "fed", "m">,
    Outputs<"y">>;

/// x [batch, tokens, d], text [batch, context, d], steer [batch, d] -> x and text.
/// Parts of a modulation: shift, scale, gate of the attention; shift, scale, gate of the feed-forward.
template <Sd3Size S, std::int64_t D = S.width()>
using Sd3Block = Graph<Inputs<"x", "text", "steer">,
    Let<"m",        SteeredRows<"norm1.linear", D, 6>,                "steer">,
    Let<"n",        SteeredRows<"norm1_context.linear", D, 6>,        "steer">,
    Let<"x_in",     ModulatedNorm<D, 6, 1, 0>,                        "x", "m">,
    Let<"text_in",  ModulatedNorm<D, 6, 1, 0>,                        "text", "n">,
    Let<"heads",    Scope<"attn", Sd3JointAttention<S>>,              "x_in", "text_in">,
    Let<"of_image", FirstTokens<D>,                                   "heads", "x">,
    Let<"of_text",  LastTokens<D>,                                    "heads", "text">,
    Let<"seen",     Linear<"attn.to_out.0", D, D>,                    "of_image">,
    Let<"read",     Linear<"attn.to_add_out", D, D>,                  "of_text">,
    Let<"x_mid",    GatedAdd<D, 6, 2>,                                "x", "seen", "m">,
    Let<"text_mid", GatedAdd<D, 6, 2>,                                "text", "read", "n">,
    Let<"x_out",    Sd3FeedForward<S, "ff", 6>,                       "x_mid", "m">,
    Let<"text_out", Sd3FeedForward<S, "ff_context", 6>,               "text_mid", "n">,
    Outputs<"x_out", "text_out">>;

/// With a second attention, of the image alone: parts 6, 7, 8 of its modulation.
template <Sd3Size S, std::int64_t D = S.width()>
using Sd3DualBlock = Graph<Inputs<"x", "text", "steer">,
    Let<"m",        SteeredRows<"norm1.linear", D, 9>,                "steer">,
    Let<"n",        SteeredRows<"norm1_context.linear", D, 6>,        "steer">,
    Let<"x_in",     ModulatedNorm<D, 9, 1, 0>,                        "x", "m">,
    Let<"text_in",  ModulatedNorm<D, 6, 1, 0>,                        "text", "n">,
    Let<"heads",    Scope<"attn", Sd3JointAttention<S>>,              "x_in", "text_in">,
    Let<"of_image", FirstTokens<D>,                                   "heads", "x">,
    Let<"of_text",  LastTokens<D>,                                    "heads", "text">,
    Let<"seen",     Linear<"attn.to_out.0", D, D>,                    "of_image">,
    Let<"read",     Linear<"attn.to_add_out", D, D>,                  "of_text">,
    Let<"x_in2",    ModulatedNorm<D, 9, 7, 6>,                        "x", "m">,
    Let<"seen2",    Scope<"attn2", Sd3ImageAttention<S>>,             "x_in2">,
    Let<"x_once",   GatedAdd<D, 9, 2>,                                "x", "seen", "m">,
    Let<"x_mid",    GatedAdd<D, 9, 8>,                                "x_once", "seen2", "m">,
    Let<"text_mid", GatedAdd<D, 6, 2>,                                "text", "read", "n">,
    Let<"x_out",    Sd3FeedForward<S, "ff", 9>,                       "x_mid", "m">,
    Let<"text_out", Sd3FeedForward<S, "ff_context", 6>,               "text_mid", "n">,
    Outputs<"x_out", "text_out">>;

/// The last: the text is read and not written. Its modulation: scale, shift.
template <Sd3Size S, std::int64_t D = S.width()>
using Sd3LastBlock = Graph<Inputs<"x", "text", "steer">,
    Let<"m",        SteeredRows<"norm1.linear", D, 6>,                "steer">,
    Let<"n",        SteeredRows<"norm1_context.linear", D, 2>,        "steer">,
    Let<"x_in",     ModulatedNorm<D, 6, 1, 0>,                        "x", "m">,
    Let<"text_in",  ModulatedNorm<D, 2, 0, 1>,                        "text", "n">,
    Let<"heads",    Scope<"attn", Sd3JointAttention<S>>,              "x_in", "text_in">,
    Let<"of_image", FirstTokens<D>,                                   "heads", "x">,
    Let<"seen",     Linear<"attn.to_out.0", D, D>,                    "of_image">,
    Let<"x_mid",    GatedAdd<D, 6, 2>,                                "x", "seen", "m">,
    Let<"x_out",    Sd3FeedForward<S, "ff", 6>,                       "x_mid", "m">,
    Outputs<"x_out">>;

template <Sd3Size S>
using Sd3EqualBlocks = Graph<Inputs<"x", "text", "steer">,
    LetAll<Outputs<"x2", "text2">, Repeat<"transformer_blocks", S.layers - 1, Sd3Block<S>>,                       "x", "text", "steer">,
    Let<"y",                       Repeat<"transformer_blocks", 1, Sd3LastBlock<S>, S.layers - 1>,                "x2", "text2", "steer">,
    Outputs<"y">>;

template <Sd3Size S, std::int64_t Dual = S.dual_layers>
using Sd3DualBlocks = Graph<Inputs<"x", "text", "steer">,
    LetAll<Outputs<"x1", "text1">, Repeat<"transformer_blocks", Dual, Sd3DualBlock<S>>,                           "x", "text", "steer">,
    LetAll<Outputs<"x2", "text2">, Repeat<"transformer_blocks", S.layers - 1 - Dual, Sd3Block<S>, Dual>,          "x1", "text1", "steer">,
    Let<"y",                       Repeat<"transformer_blocks", 1, Sd3LastBlock<S>, S.layers - 1>,                "x2", "text2", "steer">,
    Outputs<"y">>;

template <Sd3Size S>
using Sd3Blocks = std::conditional_t<S.dual_layers == 0, Sd3EqualBlocks<S>, Sd3DualBlocks<S>>;

/// image [batch, channels, height, width] -> [batch, height / 2 * width / 2, d]
template <Sd3Size S, std::int64_t D = S.width()>
using Sd3Patches = Scope<"pos_embed",
    Sequential<ChannelsLast<S.channels>, Conv2d<"proj", S.channels, D, 2, Stride<2>>,
               AddCroppedTable<"pos_embed", S.side, D>, Flatten<D>>>;

/// image [batch, channels, height, width] (latents; height and width are even), text [batch, context, text], pooled
/// [batch, pooled], timestep [batch] (0 ... 1000) -> [batch, channels, height, width].
template <Sd3Size S, std::int64_t D = S.width()>
using StableDiffusion3 = Graph<Inputs<"image", "text", "pooled", "timestep">,
    Let<"x",      Sd3Patches<S>,                                                             "image">,
    Let<"steer",  Scope<"time_text_embed", Steering<D, S.pooled>>,                           "timestep", "pooled">,
    Let<"words",  Sequential<ContextOf<S.text>, Linear<"context_embedder", S.text, D>>,      "text">,
    Let<"mixed",  Sd3Blocks<S>,                                                              "x", "words", "steer">,
    Let<"m",      SteeredRows<"norm_out.linear", D, 2>,                                      "steer">,
    Let<"normed", ModulatedNorm<D, 2, 0, 1>,                                                 "mixed", "m">,
    Let<"flat",   Linear<"proj_out", D, 4 * S.channels>,                                     "normed">,
    Let<"y",      Unpatchify<S.channels, Extent{2, 2}>,                                      "flat", "image">,
    Outputs<"y">>;
// clang-format on

} // namespace tenon::models

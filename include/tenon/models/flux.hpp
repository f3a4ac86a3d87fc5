// SPDX-License-Identifier: Apache-2.0
// FLUX.1 (Black Forest Labs 2024; diffusers' FluxTransformer2DModel) as a type, with the tensor names of diffusers'
// checkpoints: blocks in which image and text have weights of their own and attend to each other, then blocks on the
// joined sequence. Time, guidance and pooled text steer every block; positions are rotary, of three numbers a token.
#pragma once

#include <tenon/layers/joined_linear.hpp>
#include <tenon/layers/rotary.hpp>
#include <tenon/models/diffusion_parts.hpp>

namespace tenon::models {

/// The numbers of a Flux, as its config.json has them.
struct FluxSize {
  std::int64_t channels;      ///< in_channels: of a packed latent
  std::int64_t double_layers; ///< num_layers
  std::int64_t single_layers; ///< num_single_layers
  Heads heads;                ///< num_attention_heads, attention_head_dim
  std::int64_t text;          ///< joint_attention_dim
  std::int64_t pooled;        ///< pooled_projection_dim
  RotaryParts rotary;         ///< axes_dims_rope

  [[nodiscard]] constexpr std::int64_t width() const { return heads.all(); }
};

/// Dev's and schnell's; schnell is `FluxUnguided`.
inline constexpr FluxSize flux_1{64, 19, 38, {24, 128}, 4096, 768, {16, 56, 56}};

// clang-format off: columns of name, op, wires read as the figure they are
/// x [batch, tokens, d], text [batch, context, d], steer [batch, d], places [context + tokens, 3] -> x and text.
/// Parts of a modulation: shift, scale, gate of the attention; shift, scale, gate of the feed-forward.
template <FluxSize S, std::int64_t D = S.width(), std::int64_t H = S.heads.width>
using FluxDoubleBlock = Graph<Inputs<"x", "text", "steer", "places">,
    Let<"m",         SteeredRows<"norm1.linear", D, 6>,                                  "steer">,
    Let<"n",         SteeredRows<"norm1_context.linear", D, 6>,                          "steer">,
    Let<"x_in",      ModulatedNorm<D, 6, 1, 0>,                                          "x", "m">,
    Let<"text_in",   ModulatedNorm<D, 6, 1, 0>,                                          "text", "n">,
    Let<"q_text",    NormedHeads<"attn.add_q_proj", "attn.norm_added_q", D, H>,          "text_in">,
    Let<"q_image",   NormedHeads<"attn.to_q", "attn.norm_q", D, H>,                      "x_in">,
    Let<"q_joint",   JoinTokens<D>,                                                      "q_text", "q_image">,
    Let<"q",         RotaryAt<D, S.rotary>,                                              "q_joint", "places">,
    Let<"k_text",    NormedHeads<"attn.add_k_proj", "attn.norm_added_k", D, H>,          "text_in">,
    Let<"k_image",   NormedHeads<"attn.to_k", "attn.norm_k", D, H>,                      "x_in">,
    Let<"k_joint",   JoinTokens<D>,                                                      "k_text", "k_image">,
    Let<"k",         RotaryAt<D, S.rotary>,                                              "k_joint", "places">,
    Let<"v_text",    Linear<"attn.add_v_proj", D, D>,                                    "text_in">,
    Let<"v_image",   Linear<"attn.to_v", D, D>,                                          "x_in">,
    Let<"v",         JoinTokens<D>,                                                      "v_text", "v_image">,
    Let<"heads",     Attention<S.heads>,                                                 "q", "k", "v">,
    Let<"of_text",   FirstTokens<D>,                                                     "heads", "text">,
    Let<"of_image",  LastTokens<D>,                                                      "heads", "x">,
    Let<"seen",      Linear<"attn.to_out.0", D, D>,                                      "of_image">,
    Let<"read",      Linear<"attn.to_add_out", D, D>,                                    "of_text">,
    Let<"x_mid",     GatedAdd<D, 6, 2>,                                                  "x", "seen", "m">,
    Let<"text_mid",  GatedAdd<D, 6, 2>,                                                  "text", "read", "n">,
    Let<"x_mid_in",  ModulatedNorm<D, 6, 4, 3>,                                          "x_mid", "m">,
    Let<"x_fed",     Scope<"ff", TanhFeedForward<D, 4 * D>>,                             "x_mid_in">,
    Let<"x_out",     GatedAdd<D, 6, 5>,                                                  "x_mid", "x_fed", "m">,
    Let<"text_mid_in", ModulatedNorm<D, 6, 4, 3>,                                        "text_mid", "n">,
    Let<"text_fed",  Scope<"ff_context", TanhFeedForward<D, 4 * D>>,                     "text_mid_in">,
    Let<"text_out",  GatedAdd<D, 6, 5>,                                                  "text_mid", "text_fed", "n">,
    Outputs<"x_out", "text_out">>;

/// x [batch, context + tokens, d] -> the same. Parts of the modulation: shift, scale, gate.
template <FluxSize S, std::int64_t D = S.width(), std::int64_t H = S.heads.width>
using FluxSingleBlock = Graph<Inputs<"x", "steer", "places">,
    Let<"m",      SteeredRows<"norm.linear", D, 3>,                           "steer">,
    Let<"in",     ModulatedNorm<D, 3, 1, 0>,                                  "x", "m">,
    Let<"q_flat", NormedHeads<"attn.to_q", "attn.norm_q", D, H>,              "in">,
    Let<"k_flat", NormedHeads<"attn.to_k", "attn.norm_k", D, H>,              "in">,
    Let<"v",      Linear<"attn.to_v", D, D>,                                  "in">,
    Let<"q",      RotaryAt<D, S.rotary>,                                      "q_flat", "places">,
    Let<"k",      RotaryAt<D, S.rotary>,                                      "k_flat", "places">,
    Let<"heads",  Attention<S.heads>,                                         "q", "k", "v">,
    Let<"mlp",    Sequential<Linear<"proj_mlp", D, 4 * D>, GeluTanh>,         "in">,
    Let<"mixed",  JoinedLinear<"proj_out", D, 4 * D, D>,                      "heads", "mlp">,
    Let<"y",      GatedAdd<D, 3, 2>,                                          "x", "mixed", "m">,
    Outputs<"y">>;

/// timestep and guidance [batch], pooled [batch, pooled] -> [batch, d], after the SiLU that every block applies.
template <FluxSize S, std::int64_t D = S.width()>
using FluxGuidedSteering = Graph<Inputs<"timestep", "guidance", "pooled">,
    Let<"time",     TimeEmbedding<"timestep_embedder", 256, D, 1000>,   "timestep">,
    Let<"strength", TimeEmbedding<"guidance_embedder", 256, D, 1000>,   "guidance">,
    Let<"when",     Add,                                                "time", "strength">,
    Let<"what", Sequential<PerSequence<S.pooled>, EmbeddingMlp<"text_embedder", S.pooled, D>>,         "pooled">,
    Let<"both",     Add,                                                "when", "what">,
    Let<"steer",    Silu,                                               "both">,
    Outputs<"steer">>;

template <FluxSize S, std::int64_t D = S.width()>
using FluxBlocks = Graph<Inputs<"x", "text", "steer", "places", "image">,
    LetAll<Outputs<"x2", "text2">, Repeat<"transformer_blocks", S.double_layers, FluxDoubleBlock<S>>, "x", "text", "steer", "places">,
    Let<"joint",  JoinTokens<D>,                                                                      "text2", "x2">,
    Let<"mixed",  Repeat<"single_transformer_blocks", S.single_layers, FluxSingleBlock<S>>,           "joint", "steer", "places">,
    Let<"own",    Takes<Shape::of({batch_dim, tokens_dim, fixed(S.channels)})>,                       "image">,
    Let<"last",   LastTokens<D>,                                                                      "mixed", "own">,
    Let<"m",      SteeredRows<"norm_out.linear", D, 2>,                                               "steer">,
    Let<"normed", ModulatedNorm<D, 2, 0, 1>,                                                          "last", "m">,
    Let<"y",      Linear<"proj_out", D, S.channels>,                                                  "normed">,
    Outputs<"y">>;

/// What the blocks read: image and text [batch, ..., d], the places of the joined sequence.
template <FluxSize S, std::int64_t D = S.width()>
using FluxStart = Graph<Inputs<"image", "text", "text_places", "image_places">,
    Let<"prompt",        ContextOf<S.text>,                          "text">,
    Let<"prompt_places", Takes<Shape::of({context_dim, fixed(3)})>,  "text_places">,
    Let<"own_places",    Takes<Shape::of({tokens_dim, fixed(3)})>,   "image_places">,
    Let<"places",        JoinTokens<3>,                              "prompt_places", "own_places">,
    Let<"x",             Linear<"x_embedder", S.channels, D>,        "image">,
    Let<"words",         Linear<"context_embedder", S.text, D>,      "prompt">,
    Outputs<"x", "words", "places">>;

/// image [batch, tokens, channels] (packed latents), text [batch, context, text], pooled [batch, pooled], timestep
/// (0 ... 1) and guidance [batch], text_places [context, 3], image_places [tokens, 3] -> [batch, tokens, channels].
template <FluxSize S>
using Flux = Graph<Inputs<"image", "text", "pooled", "timestep", "guidance", "text_places", "image_places">,
    Let<"steer", Scope<"time_text_embed", FluxGuidedSteering<S>>,    "timestep", "guidance", "pooled">,
    LetAll<Outputs<"x", "words", "places">, FluxStart<S>,            "image", "text", "text_places", "image_places">,
    Let<"y", FluxBlocks<S>,                                          "x", "words", "steer", "places", "image">,
    Outputs<"y">>;

/// The same without guidance: schnell.
template <FluxSize S>
using FluxUnguided = Graph<Inputs<"image", "text", "pooled", "timestep", "text_places", "image_places">,
    Let<"steer", Scope<"time_text_embed", Steering<S.width(), S.pooled, 1000>>,  "timestep", "pooled">,
    LetAll<Outputs<"x", "words", "places">, FluxStart<S>,                        "image", "text", "text_places", "image_places">,
    Let<"y", FluxBlocks<S>,                                                      "x", "words", "steer", "places", "image">,
    Outputs<"y">>;
// clang-format on

} // namespace tenon::models

// SPDX-License-Identifier: Apache-2.0
// Wan 2.1 (Wan Team 2025, arXiv 2503.20314; diffusers' WanTransformer3DModel) as a type, text to video and image to video,
// with the tensor names of diffusers' checkpoints: self-attention with rotary positions of frame, row and column,
// cross-attention to the prompt (and to a picture), a modulation by the time with a table for each block.
#pragma once

#include <tenon/layers/channels.hpp>
#include <tenon/layers/convolution.hpp>
#include <tenon/layers/image_patches.hpp>
#include <tenon/layers/rotary.hpp>
#include <tenon/models/diffusion_parts.hpp>

namespace tenon::models {

/// The numbers of a Wan, as its config.json has them.
struct WanSize {
  std::int64_t layers;         ///< num_layers
  Heads heads;                 ///< num_attention_heads, attention_head_dim
  std::int64_t inner;          ///< ffn_dim
  std::int64_t in;             ///< in_channels
  std::int64_t out;            ///< out_channels
  std::int64_t text;           ///< text_dim
  std::int64_t image = 0;      ///< image_dim; 0: text to video
  std::int64_t features = 256; ///< freq_dim

  [[nodiscard]] constexpr std::int64_t width() const { return heads.all(); }
  /// A third of a head's pairs for rows, a third for columns, the rest for frames.
  [[nodiscard]] constexpr RotaryParts rotary() const {
    const std::int64_t side = 2 * (heads.width / 6);
    return {heads.width - 2 * side, side, side};
  }
};

inline constexpr WanSize wan21_t2v_14b{40, {40, 128}, 13824, 16, 16, 4096};
inline constexpr WanSize wan21_i2v_14b{40, {40, 128}, 13824, 36, 16, 4096, 1280};
inline constexpr WanSize wan21_t2v_13b{30, {12, 128}, 8960, 16, 16, 4096};

/// A projection normalised over all heads together.
template <fixed_string Projection, fixed_string Norm, std::int64_t D>
using WanHeads = Sequential<Linear<Projection, D, D>, RmsNorm<Norm, D>>;

// clang-format off: columns of name, op, wires read as the figure they are
/// x [batch, frames, height, width, d] -> the same
template <WanSize S, std::int64_t D = S.width()>
using WanSelfAttention = Graph<Inputs<"x">,
    Let<"q_flat", WanHeads<"to_q", "norm_q", D>,       "x">,
    Let<"k_flat", WanHeads<"to_k", "norm_k", D>,       "x">,
    Let<"q",      RotaryGrid<D, S.rotary()>,           "q_flat">,
    Let<"k",      RotaryGrid<D, S.rotary()>,           "k_flat">,
    Let<"v",      Linear<"to_v", D, D>,                "x">,
    Let<"heads",  Attention<S.heads>,                  "q", "k", "v">,
    Let<"y",      Linear<"to_out.0", D, D>,            "heads">,
    Outputs<"y">>;

/// x as above, text [batch, context, d]
template <WanSize S, std::int64_t D = S.width()>
using WanTextAttention = Graph<Inputs<"x", "text">,
    Let<"q",     WanHeads<"to_q", "norm_q", D>,        "x">,
    Let<"k",     WanHeads<"to_k", "norm_k", D>,        "text">,
    Let<"v",     Linear<"to_v", D, D>,                 "text">,
    Let<"heads", Attention<S.heads>,                   "q", "k", "v">,
    Let<"y",     Linear<"to_out.0", D, D>,             "heads">,
    Outputs<"y">>;

/// The same, and picture [batch, image, d], read by the same queries.
template <WanSize S, std::int64_t D = S.width()>
using WanPictureAttention = Graph<Inputs<"x", "text", "picture">,
    Let<"q",         WanHeads<"to_q", "norm_q", D>,                "x">,
    Let<"k",         WanHeads<"to_k", "norm_k", D>,                "text">,
    Let<"v",         Linear<"to_v", D, D>,                         "text">,
    Let<"read",      Attention<S.heads>,                           "q", "k", "v">,
    Let<"k_picture", WanHeads<"add_k_proj", "norm_added_k", D>,    "picture">,
    Let<"v_picture", Linear<"add_v_proj", D, D>,                   "picture">,
    Let<"seen",      Attention<S.heads>,                           "q", "k_picture", "v_picture">,
    Let<"heads",     Add,                                          "read", "seen">,
    Let<"y",         Linear<"to_out.0", D, D>,                     "heads">,
    Outputs<"y">>;

/// The first half of a block; parts of the modulation: shift, scale, gate of each half.
template <WanSize S, std::int64_t D = S.width()>
using WanBlockStart = Graph<Inputs<"x", "m">,
    Let<"in",       ModulatedNorm<D, 6, 1, 0>,             "x", "m">,
    Let<"attended", Scope<"attn1", WanSelfAttention<S>>,   "in">,
    Let<"y",        GatedAdd<D, 6, 2>,                     "x", "attended", "m">,
    Outputs<"y">>;

template <WanSize S, std::int64_t D = S.width()>
using WanBlockEnd = Graph<Inputs<"x", "m">,
    Let<"in",  ModulatedNorm<D, 6, 4, 3>,                      "x", "m">,
    Let<"fed", Scope<"ffn", TanhFeedForward<D, S.inner>>,      "in">,
    Let<"y",   GatedAdd<D, 6, 5>,                              "x", "fed", "m">,
    Outputs<"y">>;

template <WanSize S, std::int64_t D = S.width()>
using WanTextBlock = Graph<Inputs<"x", "time", "text">,
    Let<"m",        AddModulationTable<"scale_shift_table", 6, D>,   "time">,
    Let<"moved",    WanBlockStart<S>,                                "x", "m">,
    Let<"asked",    LayerNorm<"norm2", D, Epsilon{1e-6f}>,           "moved">,
    Let<"read",     Scope<"attn2", WanTextAttention<S>>,             "asked", "text">,
    Let<"informed", Add,                                             "moved", "read">,
    Let<"y",        WanBlockEnd<S>,                                  "informed", "m">,
    Outputs<"y">>;

template <WanSize S, std::int64_t D = S.width()>
using WanPictureBlock = Graph<Inputs<"x", "time", "text", "picture">,
    Let<"m",        AddModulationTable<"scale_shift_table", 6, D>,   "time">,
    Let<"moved",    WanBlockStart<S>,                                "x", "m">,
    Let<"asked",    LayerNorm<"norm2", D, Epsilon{1e-6f}>,           "moved">,
    Let<"read",     Scope<"attn2", WanPictureAttention<S>>,          "asked", "text", "picture">,
    Let<"informed", Add,                                             "moved", "read">,
    Let<"y",        WanBlockEnd<S>,                                  "informed", "m">,
    Outputs<"y">>;

/// video [batch, in, frames, height, width] -> [batch, frames, height / 2, width / 2, d]
template <WanSize S>
using WanPatches = Sequential<ChannelsLast<S.in, 3>,
                              Conv3d<"patch_embedding", S.in, S.width(), Extent{1, 2, 2}, Stride<Extent{1, 2, 2}>>>;

template <WanSize S, std::int64_t D = S.width()>
using WanText = Sequential<ContextOf<S.text>,
                           Linear<"condition_embedder.text_embedder.linear_1", S.text, D>, GeluTanh,
                           Linear<"condition_embedder.text_embedder.linear_2", D, D>>;

template <WanSize S, std::int64_t D = S.width()>
using WanPicture = Scope<"condition_embedder.image_embedder",
    Sequential<Takes<Shape::of({batch_dim, image_dim, fixed(S.image)})>, LayerNorm<"norm1", S.image>,
               Linear<"ff.net.0.proj", S.image, S.image>, Gelu, Linear<"ff.net.2", S.image, D>, LayerNorm<"norm2", D>>>;

template <WanSize S, std::int64_t D = S.width()>
using WanHead = Graph<Inputs<"x", "time", "video">,
    Let<"m",      AddModulationTable<"scale_shift_table", 2, D, 1>,   "time">,
    Let<"normed", ModulatedNorm<D, 2, 1, 0>,                          "x", "m">,
    Let<"flat",   Linear<"proj_out", D, 4 * S.out>,                   "normed">,
    Let<"y",      Unpatchify<S.out, Extent{1, 2, 2}>,                 "flat", "video">,
    Outputs<"y">>;

/// video [batch, in, frames, height, width] (latents), timestep [batch], text [batch, context, text] -> [batch, out,
/// frames, height, width]. Height and width are even.
template <WanSize S, std::int64_t D = S.width()>
using WanTextToVideo = Graph<Inputs<"video", "timestep", "text">,
    Let<"patches", WanPatches<S>,                                                                     "video">,
    Let<"time",    TimeEmbedding<"condition_embedder.time_embedder", S.features, D>,                  "timestep">,
    Let<"steer",   Silu,                                                                              "time">,
    Let<"m",       Linear<"condition_embedder.time_proj", D, 6 * D>,                                  "steer">,
    Let<"words",   WanText<S>,                                                                        "text">,
    Let<"moved",   Repeat<"blocks", S.layers, WanTextBlock<S>>,                                       "patches", "m", "words">,
    Let<"y",       WanHead<S>,                                                                        "moved", "time", "video">,
    Outputs<"y">>;

/// The same with picture [batch, image, image dim], the features of an image encoder.
template <WanSize S, std::int64_t D = S.width()>
using WanImageToVideo = Graph<Inputs<"video", "timestep", "text", "picture">,
    Let<"patches", WanPatches<S>,                                                                     "video">,
    Let<"time",    TimeEmbedding<"condition_embedder.time_embedder", S.features, D>,                  "timestep">,
    Let<"steer",   Silu,                                                                              "time">,
    Let<"m",       Linear<"condition_embedder.time_proj", D, 6 * D>,                                  "steer">,
    Let<"words",   WanText<S>,                                                                        "text">,
    Let<"sight",   WanPicture<S>,                                                                     "picture">,
    Let<"moved",   Repeat<"blocks", S.layers, WanPictureBlock<S>>,                                    "patches", "m", "words", "sight">,
    Let<"y",       WanHead<S>,                                                                        "moved", "time", "video">,
    Outputs<"y">>;
// clang-format on

} // namespace tenon::models

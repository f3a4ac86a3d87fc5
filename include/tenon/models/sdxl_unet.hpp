// SPDX-License-Identifier: Apache-2.0
// Stable Diffusion XL's UNet (Podell et al. 2023, arXiv 2307.01952; diffusers' UNet2DConditionModel) as a type, with the
// tensor names of diffusers' checkpoints: three levels of two resnets down, a middle, three of three resnets up, each of
// which reads what the way down left at its height; transformers on the two lower levels.
#pragma once

#include <tenon/layers/channels.hpp>
#include <tenon/layers/convolution.hpp>
#include <tenon/layers/group_norm.hpp>
#include <tenon/layers/resample.hpp>
#include <tenon/models/diffusion_parts.hpp>

namespace tenon::models {

/// The numbers of a UNet of SDXL's form, as its config.json has them.
struct SdxlSize {
  std::int64_t latent; ///< in_channels, out_channels
  std::int64_t high;   ///< block_out_channels, from the first
  std::int64_t mid;
  std::int64_t low;
  std::int64_t groups;    ///< norm_num_groups
  std::int64_t mid_heads; ///< attention_head_dim (which are numbers of heads), from the second
  std::int64_t low_heads;
  std::int64_t mid_layers; ///< transformer_layers_per_block, from the second
  std::int64_t low_layers;
  std::int64_t text;        ///< cross_attention_dim
  std::int64_t pooled;      ///< of the text's embedding
  std::int64_t id_features; ///< addition_time_embed_dim

  [[nodiscard]] constexpr std::int64_t time() const { return 4 * high; }
};

inline constexpr SdxlSize sdxl_base{4, 320, 640, 1280, 32, 10, 20, 2, 10, 2048, 1280, 256};

// clang-format off: columns of name, op, wires read as the figure they are
template <SdxlSize S, std::int64_t In, std::int64_t Out>
using SdxlConvolution1 = Sequential<GroupNorm<"norm1", S.groups, In>, Silu, Conv2d<"conv1", In, Out, 3, Padding<1>>>;
template <SdxlSize S, std::int64_t Out>
using SdxlConvolution2 = Sequential<GroupNorm<"norm2", S.groups, Out>, Silu, Conv2d<"conv2", Out, Out, 3, Padding<1>>>;

/// x [batch, height, width, in], time [batch, time] -> [batch, height, width, out]
template <SdxlSize S, std::int64_t In, std::int64_t Out>
using SdxlWideningResnet = Graph<Inputs<"x", "time">,
    Let<"first",  SdxlConvolution1<S, In, Out>,                                              "x">,
    Let<"when",   Sequential<PerSequence<S.time()>, Linear<"time_emb_proj", S.time(), Out>>,   "time">,
    Let<"timed",  AddPerSequence<Out>,                                                       "first", "when">,
    Let<"second", SdxlConvolution2<S, Out>,                                                  "timed">,
    Let<"same",   Conv2d<"conv_shortcut", In, Out, 1>,                                       "x">,
    Let<"y",      Add,                                                                       "same", "second">,
    Outputs<"y">>;

template <SdxlSize S, std::int64_t C>
using SdxlEqualResnet = Graph<Inputs<"x", "time">,
    Let<"first",  SdxlConvolution1<S, C, C>,                                                 "x">,
    Let<"when",   Sequential<PerSequence<S.time()>, Linear<"time_emb_proj", S.time(), C>>,     "time">,
    Let<"timed",  AddPerSequence<C>,                                                         "first", "when">,
    Let<"second", SdxlConvolution2<S, C>,                                                    "timed">,
    Let<"y",      Add,                                                                       "x", "second">,
    Outputs<"y">>;

template <SdxlSize S, std::int64_t In, std::int64_t Out>
using SdxlResnet = std::conditional_t<In == Out, SdxlEqualResnet<S, Out>, SdxlWideningResnet<S, In, Out>>;

/// x [batch, ..., c], context [batch, ..., from]
template <std::int64_t C, std::int64_t From, std::int64_t Count>
using SdxlAttention = Graph<Inputs<"x", "context">,
    Let<"q",     Linear<"to_q", C, C, NoBias>,                "x">,
    Let<"k",     Linear<"to_k", From, C, NoBias>,             "context">,
    Let<"v",     Linear<"to_v", From, C, NoBias>,             "context">,
    Let<"heads", Attention<Heads{Count, C / Count}>,          "q", "k", "v">,
    Let<"y",     Linear<"to_out.0", C, C>,                    "heads">,
    Outputs<"y">>;

template <SdxlSize S, std::int64_t C, std::int64_t Count>
using SdxlTransformerBlock = Graph<Inputs<"x", "text">,
    Let<"words",    ContextOf<S.text>,                                                                    "text">,
    Let<"normed",   LayerNorm<"norm1", C>,                                                                "x">,
    Let<"seen",     Scope<"attn1", SdxlAttention<C, C, Count>>,                                           "normed", "normed">,
    Let<"x2",       Add,                                                                                  "x", "seen">,
    Let<"normed2",  LayerNorm<"norm2", C>,                                                                "x2">,
    Let<"read",     Scope<"attn2", SdxlAttention<C, S.text, Count>>,                                      "normed2", "words">,
    Let<"x3",       Add,                                                                                  "x2", "read">,
    Let<"normed3",  LayerNorm<"norm3", C>,                                                                "x3">,
    Let<"fed",      Scope<"ff", Sequential<Linear<"net.0.proj", C, 8 * C>, Geglu<4 * C>, Linear<"net.2", 4 * C, C>>>,   "normed3">,
    Let<"y",        Add,                                                                                  "x3", "fed">,
    Outputs<"y">>;

/// x [batch, height, width, c], text [batch, context, text]
template <SdxlSize S, std::int64_t C, std::int64_t Count, std::int64_t Layers>
using SdxlTransformer = Graph<Inputs<"x", "text">,
    Let<"in",  Sequential<GroupNorm<"norm", S.groups, C, Epsilon{1e-6f}>, Linear<"proj_in", C, C>>,       "x">,
    Let<"out", Repeat<"transformer_blocks", Layers, SdxlTransformerBlock<S, C, Count>>,                   "in", "text">,
    Let<"own", Linear<"proj_out", C, C>,                                                                  "out">,
    Let<"y",   Add,                                                                                       "x", "own">,
    Outputs<"y">>;

template <SdxlSize S>
using SdxlMidTransformer = SdxlTransformer<S, S.mid, S.mid_heads, S.mid_layers>;
template <SdxlSize S>
using SdxlLowTransformer = SdxlTransformer<S, S.low, S.low_heads, S.low_layers>;

/// Half as high and wide; twice.
template <std::int64_t C>
using SdxlDown = Conv2d<"downsamplers.0.conv", C, C, 3, Stride<2>, Padding<1>>;
template <std::int64_t C>
using SdxlUp = Sequential<ImagesOf<C>, UpsampleNearest<2>, Conv2d<"upsamplers.0.conv", C, C, 3, Padding<1>>>;

/// A resnet on the way up reads what the way down left: its channels come after x's.
template <SdxlSize S, std::int64_t In, std::int64_t Skip, std::int64_t Out>
using SdxlUpResnet = Graph<Inputs<"x", "skip", "time">,
    Let<"own",  ImagesOf<In>,                         "x">,
    Let<"left", ImagesOf<Skip>,                       "skip">,
    Let<"both", JoinChannels<In, Skip>,               "own", "left">,
    Let<"y",    SdxlResnet<S, In + Skip, Out>,        "both", "time">,
    Outputs<"y">>;

/// timestep [batch], pooled [batch, pooled], ids [batch, 6] (sizes and crops) -> [batch, time], after the SiLU that every
/// resnet applies.
template <SdxlSize S, std::int64_t E = S.time(), std::int64_t Ids = 6 * S.id_features>
using SdxlTime = Graph<Inputs<"timestep", "pooled", "ids">,
    Let<"when",  TimeEmbedding<"time_embedding", S.high, E>,                   "timestep">,
    Let<"text",  PerSequence<S.pooled>,                                        "pooled">,
    Let<"sizes", TimestepFeatures<S.id_features, 6>,                           "ids">,
    Let<"all",   JoinChannels<S.pooled, Ids>,                                  "text", "sizes">,
    Let<"what",  EmbeddingMlp<"add_embedding", S.pooled + Ids, E>,             "all">,
    Let<"both",  Add,                                                          "when", "what">,
    Let<"time",  Silu,                                                         "both">,
    Outputs<"time">>;

/// x [batch, height, width, high] -> what each of the nine layers on the way down leaves, the last at a quarter.
template <SdxlSize S>
using SdxlWayDown = Graph<Inputs<"x", "time", "text">,
    Let<"a",  Scope<"down_blocks.0.resnets.0", SdxlResnet<S, S.high, S.high>>,      "x", "time">,
    Let<"b",  Scope<"down_blocks.0.resnets.1", SdxlResnet<S, S.high, S.high>>,      "a", "time">,
    Let<"c",  Scope<"down_blocks.0", SdxlDown<S.high>>,                             "b">,
    Let<"d1", Scope<"down_blocks.1.resnets.0", SdxlResnet<S, S.high, S.mid>>,       "c", "time">,
    Let<"d",  Scope<"down_blocks.1.attentions.0", SdxlMidTransformer<S>>,           "d1", "text">,
    Let<"e1", Scope<"down_blocks.1.resnets.1", SdxlResnet<S, S.mid, S.mid>>,        "d", "time">,
    Let<"e",  Scope<"down_blocks.1.attentions.1", SdxlMidTransformer<S>>,           "e1", "text">,
    Let<"f",  Scope<"down_blocks.1", SdxlDown<S.mid>>,                              "e">,
    Let<"g1", Scope<"down_blocks.2.resnets.0", SdxlResnet<S, S.mid, S.low>>,        "f", "time">,
    Let<"g",  Scope<"down_blocks.2.attentions.0", SdxlLowTransformer<S>>,           "g1", "text">,
    Let<"h1", Scope<"down_blocks.2.resnets.1", SdxlResnet<S, S.low, S.low>>,        "g", "time">,
    Let<"h",  Scope<"down_blocks.2.attentions.1", SdxlLowTransformer<S>>,           "h1", "text">,
    Outputs<"a", "b", "c", "d", "e", "f", "g", "h">>;

template <SdxlSize S>
using SdxlMiddle = Graph<Inputs<"x", "time", "text">,
    Let<"i", Scope<"resnets.0", SdxlResnet<S, S.low, S.low>>,     "x", "time">,
    Let<"j", Scope<"attentions.0", SdxlLowTransformer<S>>,        "i", "text">,
    Let<"y", Scope<"resnets.1", SdxlResnet<S, S.low, S.low>>,     "j", "time">,
    Outputs<"y">>;

/// The three layers at each height read what was left there, last first.
template <SdxlSize S>
using SdxlWayUpLow = Graph<Inputs<"x", "time", "text", "f", "g", "h">,
    Let<"k1", Scope<"resnets.0", SdxlUpResnet<S, S.low, S.low, S.low>>,     "x", "h", "time">,
    Let<"k",  Scope<"attentions.0", SdxlLowTransformer<S>>,                 "k1", "text">,
    Let<"l1", Scope<"resnets.1", SdxlUpResnet<S, S.low, S.low, S.low>>,     "k", "g", "time">,
    Let<"l",  Scope<"attentions.1", SdxlLowTransformer<S>>,                 "l1", "text">,
    Let<"m1", Scope<"resnets.2", SdxlUpResnet<S, S.low, S.mid, S.low>>,     "l", "f", "time">,
    Let<"m",  Scope<"attentions.2", SdxlLowTransformer<S>>,                 "m1", "text">,
    Let<"y",  SdxlUp<S.low>,                                                "m">,
    Outputs<"y">>;

template <SdxlSize S>
using SdxlWayUpMid = Graph<Inputs<"x", "time", "text", "c", "d", "e">,
    Let<"k1", Scope<"resnets.0", SdxlUpResnet<S, S.low, S.mid, S.mid>>,     "x", "e", "time">,
    Let<"k",  Scope<"attentions.0", SdxlMidTransformer<S>>,                 "k1", "text">,
    Let<"l1", Scope<"resnets.1", SdxlUpResnet<S, S.mid, S.mid, S.mid>>,     "k", "d", "time">,
    Let<"l",  Scope<"attentions.1", SdxlMidTransformer<S>>,                 "l1", "text">,
    Let<"m1", Scope<"resnets.2", SdxlUpResnet<S, S.mid, S.high, S.mid>>,    "l", "c", "time">,
    Let<"m",  Scope<"attentions.2", SdxlMidTransformer<S>>,                 "m1", "text">,
    Let<"y",  SdxlUp<S.mid>,                                                "m">,
    Outputs<"y">>;

template <SdxlSize S>
using SdxlWayUpHigh = Graph<Inputs<"x", "time", "first", "a", "b">,
    Let<"k", Scope<"resnets.0", SdxlUpResnet<S, S.mid, S.high, S.high>>,    "x", "b", "time">,
    Let<"l", Scope<"resnets.1", SdxlUpResnet<S, S.high, S.high, S.high>>,   "k", "a", "time">,
    Let<"y", Scope<"resnets.2", SdxlUpResnet<S, S.high, S.high, S.high>>,   "l", "first", "time">,
    Outputs<"y">>;

/// sample [batch, latent, height, width] (height and width multiples of 4), timestep [batch], text [batch, context,
/// text], pooled [batch, pooled], ids [batch, 6] -> [batch, latent, height, width].
template <SdxlSize S>
using SdxlUnet = Graph<Inputs<"sample", "timestep", "text", "pooled", "ids">,
    Let<"time",   SdxlTime<S>,                                                                            "timestep", "pooled", "ids">,
    Let<"words",  ContextOf<S.text>,                                                                      "text">,
    Let<"first",  Sequential<ChannelsLast<S.latent>, Conv2d<"conv_in", S.latent, S.high, 3, Padding<1>>>,   "sample">,
    LetAll<Outputs<"a", "b", "c", "d", "e", "f", "g", "h">, SdxlWayDown<S>,                               "first", "time", "words">,
    Let<"middle", Scope<"mid_block", SdxlMiddle<S>>,                                                      "h", "time", "words">,
    Let<"low",    Scope<"up_blocks.0", SdxlWayUpLow<S>>,                                                  "middle", "time", "words", "f", "g", "h">,
    Let<"mid",    Scope<"up_blocks.1", SdxlWayUpMid<S>>,                                                  "low", "time", "words", "c", "d", "e">,
    Let<"high",   Scope<"up_blocks.2", SdxlWayUpHigh<S>>,                                                 "mid", "time", "first", "a", "b">,
    Let<"normed", Sequential<GroupNorm<"conv_norm_out", S.groups, S.high>, Silu>,                         "high">,
    Let<"last",   Conv2d<"conv_out", S.high, S.latent, 3, Padding<1>>,                                    "normed">,
    Let<"y",      ChannelsFirst<S.latent>,                                                                "last">,
    Outputs<"y">>;
// clang-format on

} // namespace tenon::models

// SPDX-License-Identifier: Apache-2.0
// The encoders of T5 v1.1 (Raffel et al. 2019, arXiv 1910.10683) and UMT5 (Chung et al. 2023, arXiv 2304.09151), with
// the tensor names of Hugging Face's T5EncoderModel and UMT5EncoderModel: RMSNorm, attention that is not scaled but has
// a learned bias for each distance, gated GELU. T5's blocks share the bias of the first; UMT5's have their own.
#pragma once

#include <tenon/graph/graph.hpp>
#include <tenon/graph/repeat.hpp>
#include <tenon/graph/scope.hpp>
#include <tenon/graph/sequential.hpp>
#include <tenon/layers/activations.hpp>
#include <tenon/layers/attention.hpp>
#include <tenon/layers/combine.hpp>
#include <tenon/layers/embedding.hpp>
#include <tenon/layers/linear.hpp>
#include <tenon/layers/norm.hpp>

namespace tenon::models {

/// The numbers of a T5, as its config.json has them.
struct T5Size {
  std::int64_t vocabulary;         ///< vocab_size
  std::int64_t width;              ///< d_model
  std::int64_t layers;             ///< num_layers
  Heads heads;                     ///< num_heads, d_kv
  std::int64_t inner;              ///< d_ff
  bool shares_bias = true;         ///< false: UMT5
  std::int64_t buckets = 32;       ///< relative_attention_num_buckets
  std::int64_t max_distance = 128; ///< relative_attention_max_distance
};

inline constexpr T5Size t5_xxl{32128, 4096, 24, {64, 64}, 10240};
inline constexpr T5Size umt5_xxl{256384, 4096, 24, {64, 64}, 10240, false};

template <T5Size S>
using T5Bias = std::conditional_t<
    S.shares_bias,
    SharedRelativeBias<"encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", S.buckets,
                       S.max_distance>,
    RelativeBias<"relative_attention_bias.weight", S.buckets, S.max_distance>>;

// clang-format off: columns of name, op, wires read as the figure they are
template <T5Size S>
using T5Attention = Graph<Inputs<"x", "mask">,
    Let<"q",     Linear<"q", S.width, S.heads.all(), NoBias>,         "x">,
    Let<"k",     Linear<"k", S.width, S.heads.all(), NoBias>,         "x">,
    Let<"v",     Linear<"v", S.width, S.heads.all(), NoBias>,         "x">,
    Let<"heads", Attention<S.heads, Unscaled, T5Bias<S>>,             "q", "k", "v", "mask">,
    Let<"y",     Linear<"o", S.heads.all(), S.width, NoBias>,         "heads">,
    Outputs<"y">>;

template <T5Size S>
using T5FeedForward = Graph<Inputs<"x">,
    Let<"gate",  Linear<"wi_0", S.width, S.inner, NoBias>,   "x">,
    Let<"open",  GeluTanh,                                   "gate">,
    Let<"up",    Linear<"wi_1", S.width, S.inner, NoBias>,   "x">,
    Let<"gated", Multiply,                                   "open", "up">,
    Let<"y",     Linear<"wo", S.inner, S.width, NoBias>,     "gated">,
    Outputs<"y">>;

template <T5Size S>
using T5Block = Graph<Inputs<"x", "mask">,
    Let<"normed",   RmsNorm<"layer.0.layer_norm", S.width>,                    "x">,
    Let<"attended", Scope<"layer.0.SelfAttention", T5Attention<S>>,            "normed", "mask">,
    Let<"mid",      Add,                                                       "x", "attended">,
    Let<"middle",   RmsNorm<"layer.1.layer_norm", S.width>,                    "mid">,
    Let<"fed",      Scope<"layer.1.DenseReluDense", T5FeedForward<S>>,         "middle">,
    Let<"y",        Add,                                                       "mid", "fed">,
    Outputs<"y">>;

/// ids [batch, tokens] (I32), mask [batch, tokens] (F32, 1 = a token, 0 = padding) -> hidden states
/// [batch, tokens, width] after the last norm.
template <T5Size S>
using T5Encoder = Graph<Inputs<"ids", "mask">,
    Let<"embedded", Embedding<"shared", S.vocabulary, S.width>,                        "ids">,
    Let<"blocks",   Scope<"encoder", Repeat<"block", S.layers, T5Block<S>>>,           "embedded", "mask">,
    Let<"hidden",   Scope<"encoder", RmsNorm<"final_layer_norm", S.width>>,            "blocks">,
    Outputs<"hidden">>;
// clang-format on

} // namespace tenon::models

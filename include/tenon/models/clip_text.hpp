// SPDX-License-Identifier: Apache-2.0
// The text encoders of CLIP (Radford et al. 2021, arXiv 2103.00020) and OpenCLIP as diffusion models use them, with the
// tensor names of Hugging Face's CLIPTextModel and CLIPTextModelWithProjection: pre-norm blocks, causal attention,
// learned positions.
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
#include <tenon/layers/tokens.hpp>

namespace tenon::models {

/// The numbers of a CLIP text encoder, as its config.json has them.
struct ClipTextSize {
  std::int64_t vocabulary;       ///< vocab_size
  std::int64_t positions;        ///< max_position_embeddings
  std::int64_t width;            ///< hidden_size
  std::int64_t layers;           ///< num_hidden_layers, at least 2
  std::int64_t heads;            ///< num_attention_heads
  std::int64_t inner;            ///< intermediate_size
  std::int64_t projection = 0;   ///< projection_dim; 0: without
  bool has_quick_gelu = true;    ///< hidden_act quick_gelu, else gelu
  std::int64_t end_of_text = -1; ///< eos_token_id; -1: the largest id, as where the config says 2
};

inline constexpr ClipTextSize clip_l_text{49408, 77, 768, 12, 12, 3072};
inline constexpr ClipTextSize clip_bigg_text{49408, 77, 1280, 32, 20, 5120, 1280, false};

// clang-format off: columns of name, op, wires read as the figure they are
template <ClipTextSize S>
using ClipTextAttention = Graph<Inputs<"x">,
    Let<"q",     Linear<"q_proj", S.width, S.width>,                                     "x">,
    Let<"k",     Linear<"k_proj", S.width, S.width>,                                     "x">,
    Let<"v",     Linear<"v_proj", S.width, S.width>,                                     "x">,
    Let<"heads", Attention<Heads{S.heads, S.width / S.heads}, Causal>,                   "q", "k", "v">,
    Let<"y",     Linear<"out_proj", S.width, S.width>,                                   "heads">,
    Outputs<"y">>;

template <ClipTextSize S>
using ClipTextFeedForward = Sequential<Linear<"fc1", S.width, S.inner>,
                                       std::conditional_t<S.has_quick_gelu, QuickGelu, Gelu>,
                                       Linear<"fc2", S.inner, S.width>>;

template <ClipTextSize S>
using ClipTextLayer = Graph<Inputs<"x">,
    Let<"normed",   LayerNorm<"layer_norm1", S.width>,            "x">,
    Let<"attended", Scope<"self_attn", ClipTextAttention<S>>,     "normed">,
    Let<"mid",      Add,                                          "x", "attended">,
    Let<"middle",   LayerNorm<"layer_norm2", S.width>,            "mid">,
    Let<"fed",      Scope<"mlp", ClipTextFeedForward<S>>,         "middle">,
    Let<"y",        Add,                                          "mid", "fed">,
    Outputs<"y">>;

template <ClipTextSize S>
using ClipTextEmbeddings = Scope<"embeddings", Sequential<Embedding<"token_embedding", S.vocabulary, S.width>,
                                                          AddPositions<"position_embedding", S.positions, S.width>>>;

/// ids [batch, tokens] (I32) -> hidden states after the last norm; those before the last layer, which SDXL reads; and
/// the hidden state of the end of the text [batch, width].
template <ClipTextSize S>
using ClipTextModel = Graph<Inputs<"ids">,
    Let<"embedded",    Scope<"text_model", ClipTextEmbeddings<S>>,                                          "ids">,
    Let<"penultimate", Scope<"text_model.encoder", Repeat<"layers", S.layers - 1, ClipTextLayer<S>>>,       "embedded">,
    Let<"last",        Scope<"text_model.encoder", Repeat<"layers", 1, ClipTextLayer<S>, S.layers - 1>>,    "penultimate">,
    Let<"hidden",      Scope<"text_model", LayerNorm<"final_layer_norm", S.width>>,                         "last">,
    Let<"pooled",      TokenAt<S.width, S.end_of_text>,                                                     "hidden", "ids">,
    Outputs<"hidden", "penultimate", "pooled">>;

/// The same, its third output projected: the text's embedding [batch, projection].
template <ClipTextSize S>
using ClipTextModelWithProjection = Graph<Inputs<"ids">,
    LetAll<Outputs<"hidden", "penultimate", "pooled">, ClipTextModel<S>,                "ids">,
    Let<"embedding", Linear<"text_projection", S.width, S.projection, NoBias>,          "pooled">,
    Outputs<"hidden", "penultimate", "embedding">>;
// clang-format on

} // namespace tenon::models

// SPDX-License-Identifier: Apache-2.0
// BERT (Devlin et al. 2018, arXiv 1810.04805) and the sentence encoders built on it, as types, with the
// tensor names of Hugging Face's BertModel checkpoints. Post-norm blocks, exact GELU, learned positions,
// layer-norm epsilon 1e-12; token type 0 throughout. The pooler is not part of it: sentence encoders take the
// mean of the tokens.
#pragma once

#include <tenon/graph/graph.hpp>
#include <tenon/graph/repeat.hpp>
#include <tenon/graph/scope.hpp>
#include <tenon/graph/sequential.hpp>
#include <tenon/layers/activations.hpp>
#include <tenon/layers/attention.hpp>
#include <tenon/layers/embedding.hpp>
#include <tenon/layers/linear.hpp>
#include <tenon/layers/norm.hpp>
#include <tenon/layers/pooling.hpp>

namespace tenon::models {

/// The numbers of a BERT, as its config.json has them.
struct BertSize {
  std::int64_t vocabulary; ///< vocab_size
  std::int64_t positions;  ///< max_position_embeddings
  std::int64_t width;      ///< hidden_size
  std::int64_t layers;     ///< num_hidden_layers
  std::int64_t heads;      ///< num_attention_heads
  std::int64_t inner;      ///< intermediate_size
};

inline constexpr BertSize minilm_l6{30522, 512, 384, 6, 12, 1536};
inline constexpr BertSize bert_base{30522, 512, 768, 12, 12, 3072};

/// ids [batch, tokens] -> [batch, tokens, width]
template <BertSize S>
using BertEmbeddings =
    Scope<"embeddings", Sequential<Embedding<"word_embeddings", S.vocabulary, S.width>,
                                   AddEmbeddingRow<"token_type_embeddings", 2, S.width>,
                                   AddPositions<"position_embeddings", S.positions, S.width>,
                                   LayerNorm<"LayerNorm", S.width, Epsilon{1e-12f}>>>;

template <BertSize S>
using BertFeedForward = Sequential<Linear<"intermediate.dense", S.width, S.inner>, Gelu,
                                   Linear<"output.dense", S.inner, S.width>>;

// clang-format off: columns of name, op, wires read as the figure they are
template <BertSize S>
using BertLayer = Graph<Inputs<"x", "mask">,
    Let<"heads",    SelfAttention<"attention.self", S.width, S.heads>,     "x", "mask">,
    Let<"attended", Linear<"attention.output.dense", S.width, S.width>,    "heads">,
    Let<"mid",      AddNorm<"attention.output.LayerNorm", S.width>,        "attended", "x">,
    Let<"fed",      BertFeedForward<S>,                                    "mid">,
    Let<"y",        AddNorm<"output.LayerNorm", S.width>,                  "fed", "mid">,
    Outputs<"y">>;
// clang-format on

/// x [batch, tokens, width], mask [batch, tokens] -> [batch, tokens, width]
template <BertSize S>
using BertEncoder = Scope<"encoder", Repeat<"layer", S.layers, BertLayer<S>>>;

// clang-format off
/// ids [batch, tokens] (I32), mask [batch, tokens] (F32, 1 = a token, 0 = padding) -> hidden states
/// [batch, tokens, width].
template <BertSize S>
using Bert = Graph<Inputs<"ids", "mask">,
    Let<"embedded", BertEmbeddings<S>, "ids">,
    Let<"hidden",   BertEncoder<S>,    "embedded", "mask">,
    Outputs<"hidden">>;

/// The same, then the mean of the tokens, of length 1: outputs embedding [batch, width] and hidden states. What
/// sentence-transformers' all-MiniLM-L6-v2 computes (Reimers and Gurevych 2019, arXiv 1908.10084).
template <BertSize S>
using SentenceEncoder = Graph<Inputs<"ids", "mask">,
    Let<"hidden",    Bert<S>,              "ids", "mask">,
    Let<"pooled",    MeanPool<S.width>,    "hidden", "mask">,
    Let<"embedding", L2Normalize,          "pooled">,
    Outputs<"embedding", "hidden">>;
// clang-format on

using MiniLM = SentenceEncoder<minilm_l6>;

} // namespace tenon::models

// SPDX-License-Identifier: Apache-2.0
// Llama 2 and 3 (Touvron et al. 2023, arXiv 2307.09288; Grattafiori et al. 2024, arXiv 2407.21783) and Qwen 2.5 (arXiv
// 2412.15115) as types, with the tensor names of Hugging Face's checkpoints: pre-norm blocks of RMSNorm, causal attention
// with rotary positions whose keys and values groups of heads share, and SwiGLU.
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
#include <tenon/layers/rotary.hpp>
#include <tenon/layers/tokens.hpp>

namespace tenon::models {

/// The numbers of a Llama or Qwen, as its config.json has them.
struct LlamaSize {
  std::int64_t vocabulary;    ///< vocab_size
  std::int64_t width;         ///< hidden_size
  std::int64_t layers;        ///< num_hidden_layers
  std::int64_t inner;         ///< intermediate_size
  Heads heads;                ///< num_attention_heads, head_dim, num_key_value_heads
  Turns turns{};              ///< rope_theta, rope_scaling
  Epsilon epsilon{1e-5f};     ///< rms_norm_eps
  bool has_qkv_bias = false;  ///< Qwen 2's
  bool has_tied_head = false; ///< tie_word_embeddings
};

inline constexpr LlamaSize llama2_7b{32000, 4096, 32, 11008, {32, 128}};
inline constexpr LlamaSize llama3_8b{128256, 4096, 32, 14336, {32, 128, 8}, {500000}};
inline constexpr LlamaSize llama31_8b{128256, 4096, 32, 14336, {32, 128, 8}, {500000, 8}};
inline constexpr LlamaSize llama3_70b{128256, 8192, 80, 28672, {64, 128, 8}, {500000}};
inline constexpr LlamaSize qwen25_7b{152064, 3584, 28, 18944, {28, 128, 4}, {1000000}, {1e-6f}, true};
inline constexpr LlamaSize qwen25_05b{151936, 896, 24, 4864, {14, 64, 2}, {1000000}, {1e-6f}, true, true};

// clang-format off: columns of name, op, wires read as the figure they are
/// x [batch, tokens, width] -> the same
template <LlamaSize S>
using LlamaAttention = Graph<Inputs<"x">,
    Let<"q_flat", Linear<"q_proj", S.width, S.heads.all(), BiasIf<S.has_qkv_bias>>,  "x">,
    Let<"k_flat", Linear<"k_proj", S.width, S.heads.kv(), BiasIf<S.has_qkv_bias>>,   "x">,
    Let<"v",      Linear<"v_proj", S.width, S.heads.kv(), BiasIf<S.has_qkv_bias>>,   "x">,
    Let<"q",      Rotary<S.heads.all(), S.heads.width, S.turns>,                     "q_flat">,
    Let<"k",      Rotary<S.heads.kv(), S.heads.width, S.turns>,                      "k_flat">,
    Let<"heads",  Attention<S.heads, Causal>,                                        "q", "k", "v">,
    Let<"y",      Linear<"o_proj", S.heads.all(), S.width, NoBias>,                  "heads">,
    Outputs<"y">>;

/// SwiGLU (Shazeer 2020, arXiv 2002.05202)
template <LlamaSize S>
using LlamaFeedForward = Graph<Inputs<"x">,
    Let<"gate",  Linear<"gate_proj", S.width, S.inner, NoBias>,   "x">,
    Let<"open",  Silu,                                            "gate">,
    Let<"up",    Linear<"up_proj", S.width, S.inner, NoBias>,     "x">,
    Let<"gated", Multiply,                                        "open", "up">,
    Let<"y",     Linear<"down_proj", S.inner, S.width, NoBias>,   "gated">,
    Outputs<"y">>;

template <LlamaSize S>
using LlamaLayer = Graph<Inputs<"x">,
    Let<"normed",   RmsNorm<"input_layernorm", S.width, S.epsilon>,          "x">,
    Let<"attended", Scope<"self_attn", LlamaAttention<S>>,                   "normed">,
    Let<"mid",      Add,                                                     "x", "attended">,
    Let<"middle",   RmsNorm<"post_attention_layernorm", S.width, S.epsilon>, "mid">,
    Let<"fed",      Scope<"mlp", LlamaFeedForward<S>>,                       "middle">,
    Let<"y",        Add,                                                     "mid", "fed">,
    Outputs<"y">>;
// clang-format on

/// ids [batch, tokens] (I32) -> hidden states [batch, tokens, width] after the last norm.
template <LlamaSize S>
using LlamaBody =
    Scope<"model",
          Sequential<Embedding<"embed_tokens", S.vocabulary, S.width>,
                     Repeat<"layers", S.layers, LlamaLayer<S>>, RmsNorm<"norm", S.width, S.epsilon>>>;

template <LlamaSize S>
using LlamaHead =
    std::conditional_t<S.has_tied_head, TiedLinear<"model.embed_tokens.weight", S.width, S.vocabulary>,
                       Linear<"lm_head", S.width, S.vocabulary, NoBias, NoSlot>>;

/// ids [batch, tokens] -> logits [batch, tokens, vocabulary] of every token.
template <LlamaSize S>
using Llama = Sequential<LlamaBody<S>, LlamaHead<S>>;

/// ids [batch, tokens] -> logits [batch, vocabulary] of what follows the last token: for generation, with a KvCache.
template <LlamaSize S>
using LlamaNext = Sequential<LlamaBody<S>, LastToken<S.width>, LlamaHead<S>>;

} // namespace tenon::models

// SPDX-License-Identifier: Apache-2.0
// ViT (Dosovitskiy et al. 2020, arXiv 2010.11929) as a type, with the tensor names of Hugging Face's ViTModel checkpoints:
// pre-norm blocks, exact GELU, learned positions, a class token; the pooler is not part of it.
#pragma once

#include <tenon/graph/graph.hpp>
#include <tenon/graph/repeat.hpp>
#include <tenon/graph/scope.hpp>
#include <tenon/graph/sequential.hpp>
#include <tenon/layers/activations.hpp>
#include <tenon/layers/attention.hpp>
#include <tenon/layers/channels.hpp>
#include <tenon/layers/combine.hpp>
#include <tenon/layers/convolution.hpp>
#include <tenon/layers/join.hpp>
#include <tenon/layers/linear.hpp>
#include <tenon/layers/norm.hpp>
#include <tenon/layers/tokens.hpp>

namespace tenon::models {

/// The numbers of a ViT, as its config.json has them.
struct VitSize {
  std::int64_t image;        ///< image_size
  std::int64_t patch;        ///< patch_size
  std::int64_t width;        ///< hidden_size
  std::int64_t layers;       ///< num_hidden_layers
  std::int64_t heads;        ///< num_attention_heads
  std::int64_t inner;        ///< intermediate_size
  std::int64_t channels = 3; ///< num_channels

  [[nodiscard]] constexpr std::int64_t patches() const { return (image / patch) * (image / patch); }
};

inline constexpr VitSize vit_base_16{224, 16, 768, 12, 12, 3072};
inline constexpr VitSize vit_large_16{224, 16, 1024, 24, 16, 4096};

/// pixels [batch, channels, image, image] -> [batch, patches + 1, width], the class token first
template <VitSize S>
using VitEmbeddings =
    Scope<"embeddings",
          Sequential<Takes<Shape::of({batch_dim, fixed(S.channels), fixed(S.image), fixed(S.image)})>,
                     ChannelsLast<S.channels>,
                     Conv2d<"patch_embeddings.projection", S.channels, S.width, Extent{S.patch, S.patch},
                            Stride<Extent{S.patch, S.patch}>>,
                     Flatten<S.width>, PrependToken<"cls_token", S.width>,
                     AddTable<"position_embeddings", S.patches() + 1, S.width>>>;

// clang-format off: columns of name, op, wires read as the figure they are
template <VitSize S>
using VitLayer = Graph<Inputs<"x">,
    Let<"normed",   LayerNorm<"layernorm_before", S.width, Epsilon{1e-12f}>,            "x">,
    Let<"heads",    SelfAttention<"attention.attention", S.width, S.heads>,             "normed">,
    Let<"attended", Linear<"attention.output.dense", S.width, S.width>,                 "heads">,
    Let<"mid",      Add,                                                                "x", "attended">,
    Let<"middle",   LayerNorm<"layernorm_after", S.width, Epsilon{1e-12f}>,             "mid">,
    Let<"inner",    Sequential<Linear<"intermediate.dense", S.width, S.inner>, Gelu>,   "middle">,
    Let<"fed",      Linear<"output.dense", S.inner, S.width>,                           "inner">,
    Let<"y",        Add,                                                                "mid", "fed">,
    Outputs<"y">>;

/// pixels [batch, channels, image, image] -> hidden states [batch, patches + 1, width] after the last norm, the class
/// token first.
template <VitSize S>
using Vit = Graph<Inputs<"pixels">,
    Let<"embedded", VitEmbeddings<S>,                                                                   "pixels">,
    Let<"seen",     Scope<"encoder", Repeat<"layer", S.layers, VitLayer<S>>>,                           "embedded">,
    Let<"hidden",   LayerNorm<"layernorm", S.width, Epsilon{1e-12f}>,                                   "seen">,
    Outputs<"hidden">>;
// clang-format on

} // namespace tenon::models

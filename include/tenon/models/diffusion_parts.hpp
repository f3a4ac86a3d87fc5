// SPDX-License-Identifier: Apache-2.0
// What several diffusion models have in common, with the names that diffusers gives the tensors.
#pragma once

#include <tenon/graph/graph.hpp>
#include <tenon/graph/repeat.hpp>
#include <tenon/graph/scope.hpp>
#include <tenon/graph/sequential.hpp>
#include <tenon/layers/activations.hpp>
#include <tenon/layers/attention.hpp>
#include <tenon/layers/combine.hpp>
#include <tenon/layers/join.hpp>
#include <tenon/layers/linear.hpp>
#include <tenon/layers/modulation.hpp>
#include <tenon/layers/norm.hpp>
#include <tenon/layers/timestep.hpp>

namespace tenon::models {

/// `name.linear_1`, SiLU, `name.linear_2`: features of the time (or of a text) [batch, In] -> [batch, D].
template <fixed_string Name, std::int64_t In, std::int64_t D>
using EmbeddingMlp = Scope<Name, Sequential<Linear<"linear_1", In, D>, Silu, Linear<"linear_2", D, D>>>;

/// t [batch] -> [batch, D]; `Factor` as of TimestepFeatures.
template <fixed_string Name, std::int64_t Features, std::int64_t D, std::int64_t Factor = 1>
using TimeEmbedding = Sequential<TimestepFeatures<Features, 1, Factor>, EmbeddingMlp<Name, Features, D>>;

/// `net.0.proj`, GELU (tanh), `net.2`.
template <std::int64_t D, std::int64_t Inner>
using TanhFeedForward = Sequential<Linear<"net.0.proj", D, Inner>, GeluTanh, Linear<"net.2", Inner, D>>;

/// A projection whose heads are normalised, each for itself.
template <fixed_string Projection, fixed_string Norm, std::int64_t D, std::int64_t HeadWidth>
using NormedHeads = Sequential<Linear<Projection, D, D>, HeadRmsNorm<Norm, D, HeadWidth>>;

/// `Parts` rows of d from the steering vector: shifts, scales and gates.
template <fixed_string Name, std::int64_t D, std::int64_t Parts>
using SteeredRows = Sequential<PerSequence<D>, Linear<Name, D, Parts * D>>;

// clang-format off: columns of name, op, wires read
/// timestep [batch], pooled [batch, Pooled] -> the steering vector [batch, d], after the SiLU that every block applies.
template <std::int64_t D, std::int64_t Pooled, std::int64_t Factor = 1>
using Steering = Graph<Inputs<"timestep", "pooled">,
    Let<"when",  TimeEmbedding<"timestep_embedder", 256, D, Factor>,                         "timestep">,
    Let<"what",  Sequential<PerSequence<Pooled>, EmbeddingMlp<"text_embedder", Pooled, D>>,  "pooled">,
    Let<"both",  Add,                                                                        "when", "what">,
    Let<"steer", Silu,                                                                       "both">,
    Outputs<"steer">>;
// clang-format on

} // namespace tenon::models

// SPDX-License-Identifier: Apache-2.0
// Small nets that together use every node and layer: what session tests run.
#pragma once

#include <tenon/tenon.hpp>

namespace tenon::test {

/// Two layers, three slots closed or open by option.
using Mlp = Sequential<Linear<"up", 6, 10>, Gelu, Linear<"down", 10, 6>>;

/// A residual block, repeated; inside a scope, with a side input and a fork.
template <std::int64_t D>
using Block =
    Graph<Inputs<"x", "mask">, Let<"heads", SelfAttention<"attention", D, 2>, "x", "mask">,
          Let<"mid", AddNorm<"norm", D>, "heads", "x">,
          Let<"fed", Sequential<Linear<"up", D, 2 * D>, Silu, Linear<"down", 2 * D, D, NoBias>>, "mid">,
          Let<"y", Add, "fed", "mid">, Outputs<"y">>;

template <std::int64_t D, std::int64_t Layers>
using Encoder = Graph<Inputs<"ids", "mask">, Let<"embedded", Embedding<"words", 11, D>, "ids">,
                      Let<"hidden", Scope<"encoder", Repeat<"layer", Layers, Block<D>>>, "embedded", "mask">,
                      Let<"pooled", MeanPool<D>, "hidden", "mask">, Let<"unit", L2Normalize, "pooled">,
                      Outputs<"unit", "hidden">>;

/// Loops within loops, with an even and an odd count.
template <std::int64_t Outer, std::int64_t Inner>
using Nested =
    Repeat<"outer", Outer,
           Sequential<Linear<"mix", 6, 6>, Repeat<"inner", Inner, Sequential<Linear<"fc", 6, 6>, Tanh>>>>;

} // namespace tenon::test

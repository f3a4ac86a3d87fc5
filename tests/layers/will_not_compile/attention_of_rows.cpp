// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Attention: it reads sequences, \[batch, tokens, width\] or with more axes
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Pool = Gelu;
#else
using Pool = MeanPool<8>;
#endif
using Net = Graph<Inputs<"x">, Let<"own", Takes<Shape::of({batch_dim, tokens_dim, fixed(8)})>, "x">,
                  Let<"p", Pool, "own">, Let<"y", Attention<Heads{2, 4}>, "p", "p", "p">, Outputs<"y">>;
const auto weights_of_net = weight_count<Net>;

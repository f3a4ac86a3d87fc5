// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Attention: keys and values must have one shape
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Values = Let<"v", Linear<"v", 4, 4>, "words">;
#else
using Values = Let<"v", Linear<"v", 4, 4>, "x">;
#endif
using Net = Graph<Inputs<"x", "text">, Let<"words", ContextOf<4>, "text">, Let<"q", Linear<"q", 4, 4>, "x">,
                  Let<"k", Linear<"k", 4, 4>, "words">, Values,
                  Let<"y", Attention<Heads{1, 4}>, "q", "k", "v">, Outputs<"y">>;
const auto slots_of_net = slot_count<Net>;

// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Attention: a mask has one number for each key; see OverContext
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Read = Attention<Heads{1, 4}, OverContext>;
#else
using Read = Attention<Heads{1, 4}>;
#endif
using Net = Graph<Inputs<"x", "text", "mask">, Let<"words", ContextOf<4>, "text">,
                  Let<"q", Linear<"q", 4, 4>, "x">, Let<"k", Linear<"k", 4, 4>, "words">,
                  Let<"v", Linear<"v", 4, 4>, "words">, Let<"y", Read, "q", "k", "v", "mask">, Outputs<"y">>;
const auto slots_of_net = slot_count<Net>;

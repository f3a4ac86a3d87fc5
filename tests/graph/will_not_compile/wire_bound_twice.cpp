// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Graph: a wire is bound twice; give each Let a name of its own
// expect: WireIsBoundOnce<.*Let<.*mid
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Graph<Inputs<"x">, Let<"mid", Linear<"fc1", 8, 8>, "x">, Let<"y", Linear<"fc2", 8, 8>, "mid">,
                  Outputs<"y">>;
#else
using Net = Graph<Inputs<"x">, Let<"mid", Linear<"fc1", 8, 8>, "x">, Let<"mid", Linear<"fc2", 8, 8>, "mid">,
                  Outputs<"mid">>;
#endif
const auto slots_of_net = slot_count<Net>;

// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Graph: a wire is bound but never used; remove it or name it in Outputs
// expect: WireIsUsed<.*Let<.*left
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Graph<Inputs<"x">, Let<"left", Linear<"fc1", 8, 8>, "x">, Let<"y", Linear<"fc2", 8, 8>, "left">,
                  Outputs<"y">>;
#else
using Net = Graph<Inputs<"x">, Let<"left", Linear<"fc1", 8, 8>, "x">, Let<"y", Linear<"fc2", 8, 8>, "x">,
                  Outputs<"y">>;
#endif
const auto slots_of_net = slot_count<Net>;

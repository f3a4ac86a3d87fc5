// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Graph: a wire is used before it is bound \(or its name is misspelt\)
// expect: WireIsBoundBeforeUse<.*Let<.*fed.*late
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Graph<Inputs<"x">, Let<"late", Linear<"fc1", 8, 8>, "x">, Let<"fed", Linear<"fc2", 8, 8>, "late">,
                  Outputs<"fed">>;
#else
using Net = Graph<Inputs<"x">, Let<"fed", Linear<"fc2", 8, 8>, "late">, Let<"late", Linear<"fc1", 8, 8>, "x">,
                  Outputs<"fed">>;
#endif
const auto slots_of_net = slot_count<Net>;

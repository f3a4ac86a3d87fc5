// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Graph: Outputs names a wire that no Let binds
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Graph<Inputs<"x">, Let<"y", Linear<"fc", 8, 8>, "x">, Outputs<"y">>;
#else
using Net = Graph<Inputs<"x">, Let<"y", Linear<"fc", 8, 8>, "x">, Outputs<"z">>;
#endif
const auto slots_of_net = slot_count<Net>;

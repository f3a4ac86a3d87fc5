// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Graph: a Let must give its op as many wires as the op reads
// expect: 1.*==.*2
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Graph<Inputs<"x">, Let<"h", Linear<"fc", 8, 8>, "x">, Let<"y", Add, "h", "x">, Outputs<"y">>;
#else
using Net = Graph<Inputs<"x">, Let<"h", Linear<"fc", 8, 8>, "x">, Let<"y", Add, "h">, Outputs<"y">>;
#endif
const auto slots_of_net = slot_count<Net>;

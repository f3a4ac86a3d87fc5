// SPDX-License-Identifier: Apache-2.0
// expect: tenon::LetAll: it must name as many wires as its op gives
// expect: 1.*==.*2
#include <tenon/tenon.hpp>

using namespace tenon;

using Both = Graph<Inputs<"a">, Let<"x", Linear<"one", 8, 8>, "a">, Let<"y", Linear<"two", 8, 8>, "a">,
                   Outputs<"x", "y">>;
#ifdef TENON_POSITIVE_CONTROL
using Net =
    Graph<Inputs<"a">, LetAll<Outputs<"u", "v">, Both, "a">, Let<"sum", Add, "u", "v">, Outputs<"sum">>;
#else
using Net = Graph<Inputs<"a">, LetAll<Outputs<"u">, Both, "a">, Outputs<"u">>;
#endif
const auto slots_of_net = slot_count<Net>;

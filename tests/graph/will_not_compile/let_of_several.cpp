// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Let: its op gives several wires; bind them all with LetAll
// expect: 2.*==.*1
#include <tenon/tenon.hpp>

using namespace tenon;

using Block = Graph<Inputs<"a", "b">, Let<"x", Linear<"one", 8, 8>, "a">, Let<"y", Linear<"two", 8, 8>, "b">,
                    Outputs<"x", "y">>;
using Blocks = Repeat<"layer", 2, Block>;
#ifdef TENON_POSITIVE_CONTROL
using Net = Graph<Inputs<"a", "b">, LetAll<Outputs<"u", "v">, Blocks, "a", "b">, Let<"sum", Add, "u", "v">,
                  Outputs<"sum">>;
#else
using Net = Graph<Inputs<"a", "b">, Let<"u", Blocks, "a", "b">, Outputs<"u">>;
#endif
const auto slots_of_net = slot_count<Net>;

// SPDX-License-Identifier: Apache-2.0
// expect: tenon: the width of a wire must equal the width that its reader takes
// expect: 32.*==.*64
// expect: WidthsAgree<.*Let<.*fed
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr std::int64_t wide = 32;
#else
constexpr std::int64_t wide = 64;
#endif
using Net = Graph<Inputs<"x">, Let<"mid", Linear<"fc1", 16, 32>, "x">,
                  Let<"fed", Linear<"fc2", wide, 32>, "mid">, Let<"y", Add, "fed", "mid">, Outputs<"y">>;
const auto slots_of_net = slot_count<Net>;

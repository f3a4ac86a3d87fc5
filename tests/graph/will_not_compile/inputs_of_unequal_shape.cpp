// SPDX-License-Identifier: Apache-2.0
// expect: tenon: the inputs of this op must all have one shape
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr std::int64_t wide = 8;
#else
constexpr std::int64_t wide = 16;
#endif
using Net = Graph<Inputs<"x">, Let<"h", Linear<"fc", 8, wide>, "x">, Let<"y", Add, "h", "x">, Outputs<"y">>;
const auto slots_of_net = slot_count<Net>;

// SPDX-License-Identifier: Apache-2.0
// expect: tenon: this type is not an op of a graph; it needs inputs, takes, gives and lower
#include <tenon/tenon.hpp>

using namespace tenon;

struct NotAnOp {};
#ifdef TENON_POSITIVE_CONTROL
using Net = Scope<"s", Linear<"fc", 8, 8>>;
#else
using Net = Scope<"s", NotAnOp>;
#endif
const auto slots_of_net = slot_count<Net>;

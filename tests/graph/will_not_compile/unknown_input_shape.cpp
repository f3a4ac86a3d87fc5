// SPDX-License-Identifier: Apache-2.0
// expect: tenon: nothing in this net fixes the shape of an input; let a layer with a width read it first
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Sequential<Gelu, Linear<"fc", 8, 8>>;
#else
using Net = Sequential<Gelu, Tanh>;
#endif
const auto slots_of_net = slot_count<Net>;

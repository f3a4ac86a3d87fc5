// SPDX-License-Identifier: Apache-2.0
// expect: tenon: a convolution must give a named axis / stride: k - s <= 2 padding < k
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Conv2d<"conv", 4, 8, 3, Padding<1>>;
#else
using Net = Conv2d<"conv", 4, 8, 3>;
#endif
const auto slots_of_net = slot_count<Net>;

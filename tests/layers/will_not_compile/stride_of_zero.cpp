// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Conv2d: channels, kernel and stride are positive, and no padding is negative
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Conv2d<"conv", 4, 8, 2, Stride<2>>;
#else
using Net = Conv2d<"conv", 4, 8, 2, Stride<0>>;
#endif
const auto slots_of_net = slot_count<Net>;

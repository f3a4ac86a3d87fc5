// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Repeat: a repeated block must give the shape that it takes
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Repeat<"block", 2, Conv2d<"conv", 4, 4, 3, Padding<1>>>;
#else
using Net = Repeat<"block", 2, Conv2d<"conv", 4, 4, 3, Stride<2>, Padding<1>>>;
#endif
const auto weights_of_net = weight_count<Net>;

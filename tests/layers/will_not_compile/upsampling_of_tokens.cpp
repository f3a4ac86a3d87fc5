// SPDX-License-Identifier: Apache-2.0
// expect: tenon::UpsampleNearest: it reads \[batch, height, width, channels\]
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Sequential<Conv2d<"conv", 4, 4, 1>, UpsampleNearest<2>>;
#else
using Net = Sequential<Linear<"fc", 4, 4>, UpsampleNearest<2>>;
#endif
const auto weights_of_net = weight_count<Net>;

// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Conv2d: kernel, stride and padding are a number or Extent\{height, width\}
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Conv2d<"conv", 4, 8, Extent{5, 3}, Padding<Extent{2, 1}>>;
#else
using Net = Conv2d<"conv", 4, 8, Extent{1, 5, 3}, Padding<Extent{2, 1}>>;
#endif
const auto slots_of_net = slot_count<Net>;

// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Conv3d: kernel, stride and padding are a number or Extent\{depth, height, width\}
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Conv3d<"conv", 4, 8, Extent{1, 3, 3}, Padding<Extent{0, 1, 1}>>;
#else
using Net = Conv3d<"conv", 4, 8, Extent{3, 3}, Padding<Extent{0, 1, 1}>>;
#endif
const auto slots_of_net = slot_count<Net>;

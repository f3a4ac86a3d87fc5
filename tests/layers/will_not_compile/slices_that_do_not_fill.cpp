// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Slices: the slices must fill the layer's width, in order
// expect: 10.*==.*12
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Linear<"qkv", 4, 12, Slices<Slice<"q", 6>, Slice<"k", 3>, Slice<"v", 3>>>;
#else
using Net = Linear<"qkv", 4, 12, Slices<Slice<"q", 6>, Slice<"k", 2>, Slice<"v", 2>>>;
#endif
const auto slots_of_net = slot_count<Net>;

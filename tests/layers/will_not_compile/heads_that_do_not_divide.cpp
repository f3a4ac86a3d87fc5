// SPDX-License-Identifier: Apache-2.0
// expect: tenon::SelfAttention: the heads must divide the width
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = SelfAttention<"a", 12, 3>;
#else
using Net = SelfAttention<"a", 12, 5>;
#endif
const auto slots_of_net = slot_count<Net>;

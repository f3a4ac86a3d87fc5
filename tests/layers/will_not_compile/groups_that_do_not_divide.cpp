// SPDX-License-Identifier: Apache-2.0
// expect: tenon::GroupNorm: the groups must divide the channels
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = GroupNorm<"norm", 32, 320>;
#else
using Net = GroupNorm<"norm", 32, 300>;
#endif
const auto weights_of_net = weight_count<Net>;

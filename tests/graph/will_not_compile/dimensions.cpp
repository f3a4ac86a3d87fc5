// SPDX-License-Identifier: Apache-2.0
// expect: tenon: the dimensions of a wire must be the ones that its reader takes
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Sequential<SelfAttention<"attention", 8, 2>, MeanPool<8>>;
#else
using Net = Sequential<MeanPool<8>, SelfAttention<"attention", 8, 2>>;
#endif
const auto slots_of_net = slot_count<Net>;

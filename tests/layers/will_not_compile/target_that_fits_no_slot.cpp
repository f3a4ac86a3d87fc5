// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Targeted: a pattern fits no slot of this op
#include <tenon/tenon.hpp>

using namespace tenon;

using Mlp = Sequential<Linear<"up", 4, 8>, Relu, Linear<"down", 8, 4>>;
#ifdef TENON_POSITIVE_CONTROL
using Net = Targeted<Repeat<"layer", 3, Mlp>, Targets<"layer.*.up">>;
#else
using Net = Targeted<Repeat<"layer", 3, Mlp>, Targets<"layer.0.up">>; // the layers are of one type
#endif
const auto slots_of_net = slot_count<Net>;

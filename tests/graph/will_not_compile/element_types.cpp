// SPDX-License-Identifier: Apache-2.0
// expect: tenon: the element type of a wire must be the one that its reader takes
// expect: f32
// expect: i32
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Sequential<Embedding<"words", 10, 8>, Linear<"fc", 8, 8>>;
#else
using Net = Sequential<Linear<"fc", 8, 8>, Embedding<"words", 10, 8>>;
#endif
const auto slots_of_net = slot_count<Net>;

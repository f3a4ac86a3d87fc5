// SPDX-License-Identifier: Apache-2.0
// expect: tenon: a tied weight must have the full name of a weight of an earlier layer
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Head = TiedLinear<"model.words.weight", 4, 9>;
#else
using Head = TiedLinear<"words.weight", 4, 9>;
#endif
using Net = Sequential<Scope<"model", Embedding<"words", 9, 4>>, Head>;
const auto slots_of_net = slot_count<Net>;

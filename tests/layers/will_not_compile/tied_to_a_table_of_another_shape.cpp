// SPDX-License-Identifier: Apache-2.0
// expect: tenon: a weight that several layers read must have one shape in all of them
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr std::int64_t count = 9;
#else
constexpr std::int64_t count = 12;
#endif
using Net = Sequential<Embedding<"words", 9, 4>, TiedLinear<"words.weight", 4, count>>;
const auto slots_of_net = slot_count<Net>;

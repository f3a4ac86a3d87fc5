// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Repeat: a repeated block must give the width that it takes
// expect: 16.*==.*8
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr std::int64_t wide = 8;
#else
constexpr std::int64_t wide = 16;
#endif
using Net = Repeat<"layer", 3, Linear<"fc", 8, wide>>;
const auto slots_of_net = slot_count<Net>;

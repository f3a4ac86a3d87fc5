// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Rotary: heads of even width, a whole number of them
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr std::int64_t head = 6;
#else
constexpr std::int64_t head = 5;
#endif
using Net = Sequential<Linear<"q", 8, 30>, Rotary<30, head>>;
const auto slots_of_net = slot_count<Net>;

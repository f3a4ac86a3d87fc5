// SPDX-License-Identifier: Apache-2.0
// expect: tenon: two weights of this net have one name; give each layer a name of its own
// expect: WeightNamesAreUnique<.*layer.\*.fc.(weight|bias)
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr std::int64_t first = 3;
#else
constexpr std::int64_t first = 2;
#endif
using Net = Sequential<Repeat<"layer", 3, Linear<"fc", 8, 8>>,
                       Repeat<"layer", 2, Sequential<Linear<"fc", 8, 8>, Tanh>, first>>;
const auto slots_of_net = slot_count<Net>;

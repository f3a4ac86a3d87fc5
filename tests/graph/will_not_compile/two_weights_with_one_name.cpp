// SPDX-License-Identifier: Apache-2.0
// expect: tenon: two weights of this net have one name; give each layer a name of its own
// expect: WeightNamesAreUnique<.*encoder.fc.(weight|bias)
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Scope<"encoder", Sequential<Linear<"fc", 8, 8>, Linear<"fc2", 8, 8>>>;
#else
using Net = Scope<"encoder", Sequential<Linear<"fc", 8, 8>, Linear<"fc", 8, 8>>>;
#endif
const auto slots_of_net = slot_count<Net>;

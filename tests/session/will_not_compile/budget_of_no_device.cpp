// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Config: a budget for a device needs .memory = tn::device
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr Config small{.budget = 512 * MiB};
#else
constexpr Config small{.device_budget = 512 * MiB};
#endif
Model<Linear<"fc", 8, 8>, small> use() { return open<Linear<"fc", 8, 8>, small>("model.safetensors"); }

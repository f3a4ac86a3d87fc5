// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Config: accumulate must be f32; a type narrower than the weights' would lose digits that the checkpoint has
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr Config config{.weights = f32, .accumulate = f32};
#else
constexpr Config config{.weights = f32, .accumulate = f16};
#endif
Model<Linear<"fc", 8, 8>, config> use() { return open<Linear<"fc", 8, 8>, config>("model.safetensors"); }

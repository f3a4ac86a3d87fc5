// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Config: accumulate must be f32; products are accumulated, and activations kept, in no other type, whatever the weights are
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr Config config{.weights = bf16, .accumulate = f32};
#else
constexpr Config config{.weights = bf16, .accumulate = bf16};
#endif
Model<Linear<"fc", 8, 8>, config> use() { return open<Linear<"fc", 8, 8>, config>("model.safetensors"); }

// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Config: weights must be f32, f16, bf16 or any_dtype
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr Config config{.weights = bf16, .budget = 512 * MiB};
#else
constexpr Config config{.weights = i32, .budget = 512 * MiB};
#endif
Model<Linear<"fc", 8, 8>, config> use() { return open<Linear<"fc", 8, 8>, config>("model.safetensors"); }

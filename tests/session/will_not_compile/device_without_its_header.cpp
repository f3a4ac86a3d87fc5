// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Config: .memory = tn::device needs #include <tenon/gpu.hpp>
#include <tenon/tenon.hpp>

#ifdef TENON_POSITIVE_CONTROL
#define TENON_GPU_COMPILED
#include <tenon/gpu.hpp>
#endif

using namespace tenon;

constexpr Config on_gpu{.memory = device};
Model<Linear<"fc", 8, 8>, on_gpu> use() { return open<Linear<"fc", 8, 8>, on_gpu>("model.safetensors"); }

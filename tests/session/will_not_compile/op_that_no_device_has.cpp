// SPDX-License-Identifier: Apache-2.0
// expect: tenon::open: no device has this op of the net; open the model on the host
#define TENON_GPU_COMPILED
#include <tenon/gpu.hpp>
#include <tenon/tenon.hpp>

using namespace tenon;

constexpr Config on_gpu{.memory = device};
#ifdef TENON_POSITIVE_CONTROL
using Net = Linear<"fc", 8, 8>;
#else
inline void clip_step(const StepContext&) {}
struct Clip : ShapeKeeping<"Clip", &clip_step> {};
using Net = Sequential<Linear<"fc", 8, 8>, Clip>;
#endif
Model<Net, on_gpu> use() { return open<Net, on_gpu>("model.safetensors"); }

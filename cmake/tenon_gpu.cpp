// SPDX-License-Identifier: Apache-2.0
// The device's code, compiled once for a program by the CMake target tenon::gpu: by nvcc as tenon_gpu.cu, or by an
// ordinary compiler for one of Thrust's systems on the processor.
#if !defined(TENON_GPU_COMPILED)
#define TENON_GPU_COMPILED
#endif
#define TENON_GPU_SOURCE
#include <tenon/gpu.hpp>

std::shared_ptr<tenon::Device> tenon::open_device(const DeviceOptions& options) {
  return std::make_shared<tenon::gpu::ThrustDevice>(options);
}

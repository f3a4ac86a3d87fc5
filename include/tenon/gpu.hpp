// SPDX-License-Identifier: Apache-2.0
// Models on a GPU: include it beside <tenon/tenon.hpp> and open with a configuration that says so,
//   constexpr tn::Config on_gpu{.memory = tn::device};
//   auto model = tn::open<Net, on_gpu>("model.safetensors");
// Sessions, attach and guards are then the same. Link the CMake target tenon::gpu, which compiles the device's code
// with nvcc, or with Thrust's OMP system where there is no CUDA; or compile the whole program with nvcc. See
// docs/gpu.md.
#pragma once

#include <tenon/session/device.hpp>
#include <tenon/session/model.hpp>

#include <memory>

#if !defined(TENON_GPU_COMPILED) || defined(TENON_GPU_SOURCE)
#include <tenon/gpu/thrust_device.hpp>
#endif

namespace tenon {

/// The machine's first device. Throws `error{device_failed}` where there is none that this program has code for, saying what
/// to do.
#if !defined(TENON_GPU_COMPILED)
[[nodiscard]] inline std::shared_ptr<Device> open_device(const DeviceOptions& options = {}) {
  return std::make_shared<gpu::ThrustDevice>(options);
}
#else
[[nodiscard]] std::shared_ptr<Device> open_device(const DeviceOptions& options = {});
#endif

template <>
struct DefaultDevice<MemorySpace::device> {
  /// One for the process, opened when it is first asked for.
  [[nodiscard]] static std::shared_ptr<Device> open() {
    static const std::shared_ptr<Device> opened = open_device();
    return opened;
  }
};

} // namespace tenon

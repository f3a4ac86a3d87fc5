// SPDX-License-Identifier: Apache-2.0
// The host's own product (kernels/gemm.hpp) where device memory is the host's: Thrust's CPP, OMP and TBB systems. x
// stays floats whatever the weight's type: more exact than a device's product, never less. Cost: 2 rows out in flops
// on the calling thread; it holds 582 KiB.
#pragma once

#include <tenon/gpu/products.hpp>
#include <tenon/gpu/system.hpp>
#include <tenon/session/device.hpp>

#if !TENON_ON_CUDA

#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/scratch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tenon::gpu {

class HostProducts final : public Products {
 public:
  HostProducts() = default;
  explicit HostProducts(const DeviceOptions&) {} // which allow more than it does
  [[nodiscard]] std::int64_t scratch_bytes(std::int64_t, std::int64_t, std::int64_t,
                                           DType) const noexcept override {
    return 0; // its own does for every shape
  }
  void multiply(Queue&, kernels::ConstMatrix x, const kernels::WeightMatrix& w, kernels::Matrix y, float keep,
                std::span<std::byte>) override {
    if (keep == 0.0f)
      for (std::int64_t i = 0; i < y.rows; ++i) std::fill_n(y.row(i), y.cols, 0.0f);
    kernels::multiply_nt(x, w, 1.0f, y, kernels::Scratch(room_));
  }

 private:
  static constexpr std::int64_t any = 1 << 20; // the need grows no more long before
  std::vector<std::byte> room_ = std::vector<std::byte>(
      static_cast<std::size_t>(kernels::multiply_scratch_bytes(any, any, any) + kernels::scratch_alignment));
};

} // namespace tenon::gpu

#endif

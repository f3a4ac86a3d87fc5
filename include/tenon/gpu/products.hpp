// SPDX-License-Identifier: Apache-2.0
// Products on a device, as an interface: cuBLASLt's on CUDA (cublaslt.hpp), the host's own where device memory is the
// host's (host_products.hpp).
#pragma once

#include <tenon/gpu/queue.hpp>
#include <tenon/kernels/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::gpu {

class Products {
 public:
  virtual ~Products() = default;

  /// Bytes of device scratch that `multiply` needs for these.
  [[nodiscard]] virtual std::int64_t scratch_bytes(std::int64_t rows, std::int64_t out, std::int64_t in,
                                                   DType weight) const noexcept = 0;
  /// y [rows, out] = keep * y + x [rows, in] w [out, in]^T, keep 0 or 1; y is only written where keep is 0. x and y are
  /// floats. Weights of 16 bits are multiplied with x rounded to their type; sums are floats. All matrices are in device
  /// memory. Throws `error{device}`.
  virtual void multiply(Queue& queue, kernels::ConstMatrix x, const kernels::WeightMatrix& w,
                        kernels::Matrix y, float keep, std::span<std::byte> scratch) = 0;
};

} // namespace tenon::gpu

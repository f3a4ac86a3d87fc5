// SPDX-License-Identifier: Apache-2.0
// Products on a device, as an interface: cuBLASLt's on CUDA (cublaslt.hpp), the host's own where device memory is the
// host's (host_products.hpp).
#pragma once

#include <tenon/gpu/queue.hpp>
#include <tenon/gpu/scratch.hpp>
#include <tenon/kernels/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::gpu {

/// Of a library's product, for sums that several blocks share: what NVIDIA recommends from sm_90 on (cuBLAS's manual,
/// section "cuBLAS workspace configuration").
inline constexpr std::int64_t product_workspace_bytes = std::int64_t{32} << 20;

/// Elements between rows of x rounded to 16 bits: rows begin on boundaries of 16 bytes.
[[nodiscard]] constexpr std::int64_t rounded_stride(std::int64_t in) noexcept { return (in + 7) / 8 * 8; }

/// Bytes of device scratch that any implementation's product of x [rows, in] and w [out, in], of any dtype, needs: x in
/// 16 bits and a workspace. Grows with each of them.
[[nodiscard]] constexpr std::int64_t product_scratch_bytes(std::int64_t rows, std::int64_t /*out*/,
                                                           std::int64_t in) noexcept {
  return DeviceScratch::rounded(rows * rounded_stride(in) * 2) + product_workspace_bytes;
}

/// One thread at a time.
class Products {
 public:
  virtual ~Products() = default;

  /// Bytes of device scratch that `multiply` needs for these; at most `product_scratch_bytes`.
  [[nodiscard]] virtual std::int64_t scratch_bytes(std::int64_t rows, std::int64_t out, std::int64_t in,
                                                   DType weight) const noexcept = 0;
  /// y [rows, out] = keep * y + x [rows, in] w [out, in]^T, keep 0 or 1; y is only written where keep is 0. x and y are
  /// floats. With weights of 16 bits x may be rounded to their type; sums are floats. All matrices are in device memory.
  /// `scratch` begins on a boundary of 256. Throws `error{device_failed}`.
  virtual void multiply(Queue& queue, kernels::ConstMatrix x, const kernels::WeightMatrix& w,
                        kernels::Matrix y, float keep, std::span<std::byte> scratch) = 0;
};

} // namespace tenon::gpu

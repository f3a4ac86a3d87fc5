// SPDX-License-Identifier: Apache-2.0
// Products by cuBLASLt, on CUDA. A row-major matrix is a column-major one turned round, so what is asked for is
// y^T [out, rows] = w x^T, the form that cuBLAS calls TN. Which algorithm is cuBLAS's own choice, asked for once for each
// shape. Cost: 2 rows out in flops and, with weights of 16 bits, a pass over x that rounds it to their type.
#pragma once

#include <tenon/gpu/products.hpp>
#include <tenon/gpu/queue.hpp>
#include <tenon/gpu/system.hpp>

#if TENON_ON_CUDA

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/gpu/round_rows.hpp>
#include <tenon/gpu/scratch.hpp>
#include <tenon/gpu/storage.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/session/device.hpp>

#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>

namespace tenon::gpu {

/// Throws `error{device_failed}` with cuBLAS's own words unless `status` is a success.
inline void check_cublas(cublasStatus_t status, std::string_view operation) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw error(ErrorCode::device_failed, concat(operation, ": cuBLAS says \"", cublasLtGetStatusString(status),
                                               "\" (", cublasLtGetStatusName(status), ")"));
}

class CublasLtProducts final : public Products {
 public:
  explicit CublasLtProducts(const DeviceOptions& options) : options_(options) {
    check_cublas(cublasLtCreate(&handle_), "make a cuBLAS handle");
  }
  ~CublasLtProducts() override { static_cast<void>(cublasLtDestroy(handle_)); }
  CublasLtProducts(const CublasLtProducts&) = delete;
  CublasLtProducts& operator=(const CublasLtProducts&) = delete;

  [[nodiscard]] std::int64_t scratch_bytes(std::int64_t rows, std::int64_t out, std::int64_t in,
                                           DType weight) const noexcept override {
    return weight == DType::f32 ? product_workspace_bytes : product_scratch_bytes(rows, out, in);
  }

  void multiply(Queue& queue, kernels::ConstMatrix x, const kernels::WeightMatrix& w, kernels::Matrix y,
                float keep, std::span<std::byte> scratch) override {
    if (y.rows == 0 || y.cols == 0) return;
    DeviceScratch rest(scratch);
    Call call{.shape = {.rows = y.rows,
                        .out = y.cols,
                        .in = x.cols,
                        .x_stride = x.stride,
                        .w_stride = w.stride,
                        .y_stride = y.stride,
                        .dtype = w.dtype,
                        .keeps = keep != 0.0f},
              .x = x.data,
              .w = w.data,
              .y = y.data,
              .keep = keep};
    with_storage(w.dtype, [&]<class Storage>(Storage) {
      if constexpr (Storage::dtype != DType::f32) {
        call.shape.x_stride = rounded_stride(x.cols);
        auto* const rounded = rest.take<typename Storage::bits>(x.rows * call.shape.x_stride);
        round_rows<Storage>(queue, x, rounded, call.shape.x_stride);
        call.x = rounded;
      }
    });
    call.shape.x_alignment = alignment(call.x);
    call.shape.w_alignment = alignment(call.w);
    call.shape.y_alignment = alignment(call.y);
    call.workspace = rest.rest();
    run(queue, call);
  }

 private:
  /// What cuBLAS chooses an algorithm by.
  struct Shape {
    std::int64_t rows = 0;
    std::int64_t out = 0;
    std::int64_t in = 0;
    std::int64_t x_stride = 0;
    std::int64_t w_stride = 0;
    std::int64_t y_stride = 0;
    DType dtype = DType::f32; ///< of w, and of x as it is multiplied
    bool keeps = false;
    std::uint32_t x_alignment = 0; ///< bytes
    std::uint32_t w_alignment = 0;
    std::uint32_t y_alignment = 0;
    auto operator<=>(const Shape&) const = default;
  };
  struct Call {
    Shape shape{};
    const void* x = nullptr;
    const void* w = nullptr;
    float* y = nullptr;
    float keep = 0.0f;
    std::span<std::byte> workspace{};
  };
  /// The description of a call; plain memory that cuBLAS fills.
  struct Description {
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t w;
    cublasLtMatrixLayoutOpaque_t x;
    cublasLtMatrixLayoutOpaque_t y;
  };

  /// The largest power of 2 that divides an address, up to 256.
  [[nodiscard]] static std::uint32_t alignment(const void* data) noexcept {
    return std::uint32_t{1} << std::countr_zero(reinterpret_cast<std::uintptr_t>(data) | 256U);
  }
  [[nodiscard]] static std::string words(const Shape& s) {
    return concat("multiply x [", s.rows, ",", s.in, "] and w [", s.out, ",", s.in, "] ",
                  dtype_name(s.dtype));
  }
  static void check(cublasStatus_t status, const Shape& shape) {
    if (status != CUBLAS_STATUS_SUCCESS) check_cublas(status, words(shape));
  }

  void describe(const Shape& s, Description& d) const {
    const cudaDataType_t type = s.dtype == DType::f32   ? CUDA_R_32F
                                : s.dtype == DType::f16 ? CUDA_R_16F
                                                        : CUDA_R_16BF;
    const cublasComputeType_t compute =
        s.dtype == DType::f32 && options_.allows_tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    const auto rows = static_cast<std::uint64_t>(s.rows);
    const auto out = static_cast<std::uint64_t>(s.out);
    const auto in = static_cast<std::uint64_t>(s.in);
    check(cublasLtMatmulDescInit(&d.product, compute, CUDA_R_32F), s);
    const cublasOperation_t turned = CUBLAS_OP_T; // the second operand is as it lies by default
    check(cublasLtMatmulDescSetAttribute(&d.product, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned), s);
    check(cublasLtMatrixLayoutInit(&d.w, type, in, out, s.w_stride), s);
    check(cublasLtMatrixLayoutInit(&d.x, type, in, rows, s.x_stride), s);
    check(cublasLtMatrixLayoutInit(&d.y, CUDA_R_32F, out, rows, s.y_stride), s);
  }

  [[nodiscard]] cublasLtMatmulAlgo_t choose(const Shape& s, Description& d) const {
    cublasLtMatmulPreferenceOpaque_t wish;
    check(cublasLtMatmulPreferenceInit(&wish), s);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check(cublasLtMatmulPreferenceSetAttribute(&wish, attribute, &value, sizeof value), s);
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(product_workspace_bytes));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, s.w_alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, s.x_alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, s.y_alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, s.y_alignment);
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    check(
        cublasLtMatmulAlgoGetHeuristic(handle_, &d.product, &d.w, &d.x, &d.y, &d.y, &wish, 1, &best, &found),
        s);
    if (found == 0)
      throw error(ErrorCode::device_failed, concat(words(s), ": cuBLAS has no algorithm for it"));
    check(best.state, s);
    return best.algo;
  }

  void run(Queue& queue, const Call& call) {
    constexpr std::size_t most_kept = 1024; // prompts of every length would fill it without end
    Description d;
    describe(call.shape, d);
    auto found = chosen_.find(call.shape);
    if (found == chosen_.end()) {
      if (chosen_.size() == most_kept) chosen_.clear();
      found = chosen_.emplace(call.shape, choose(call.shape, d)).first;
    }
    const float one = 1.0f;
    const auto workspace = std::min(call.workspace.size(), static_cast<std::size_t>(product_workspace_bytes));
    check(cublasLtMatmul(handle_, &d.product, &one, call.w, &d.w, call.x, &d.x, &call.keep, call.y, &d.y,
                         call.y, &d.y, &found->second, call.workspace.data(), workspace, queue.stream()),
          call.shape);
  }

  cublasLtHandle_t handle_ = nullptr;
  DeviceOptions options_;
  std::map<Shape, cublasLtMatmulAlgo_t> chosen_;
};

} // namespace tenon::gpu

#endif

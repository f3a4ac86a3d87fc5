// SPDX-License-Identifier: Apache-2.0
// A GPU's tensor cores as the unit of merge_mma.hpp, through CUDA's wmma (CUDA C++ programming guide, section "Warp matrix
// functions"): squares of 16 x 16, products exact, sums floats.
#pragma once

#include <tenon/gpu/storage.hpp>
#include <tenon/gpu/system.hpp>

#if TENON_ON_CUDA

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "tenon: device code is for compute capability 8.0 or later (nvcc -arch=sm_80)"
#endif

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#include <cstdint>
#include <type_traits>

namespace tenon::gpu {

/// `Storage` is StoredF16 or StoredBf16. All pointers are to shared memory, on boundaries of 32 bytes.
template <class Storage>
struct WmmaUnit {
  using Factor = Storage;
  using Number = std::conditional_t<Storage::dtype == DType::f16, __half, __nv_bfloat16>;
  using Left = nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, Number, nvcuda::wmma::row_major>;
  using Right = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, Number, nvcuda::wmma::row_major>;
  using Sum = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;

#if defined(__CUDA_ARCH__)
  TENON_HD static void load_left(Left& left, const std::uint16_t* from, unsigned stride) {
    nvcuda::wmma::load_matrix_sync(left, reinterpret_cast<const Number*>(from), stride);
  }
  TENON_HD static void load_right(Right& right, const std::uint16_t* from, unsigned stride) {
    nvcuda::wmma::load_matrix_sync(right, reinterpret_cast<const Number*>(from), stride);
  }
  TENON_HD static void fill(Sum& sum, float value) { nvcuda::wmma::fill_fragment(sum, value); }
  TENON_HD static void add_product(Sum& sum, const Left& left, const Right& right) {
    nvcuda::wmma::mma_sync(sum, left, right, sum);
  }
  TENON_HD static void scale(Sum& sum, float factor) {
    TENON_UNROLL
    for (int i = 0; i < Sum::num_elements; ++i) sum.x[i] *= factor;
  }
  TENON_HD static void add_scaled(Sum& to, float factor, const Sum& from) {
    TENON_UNROLL
    for (int i = 0; i < Sum::num_elements; ++i) to.x[i] += factor * from.x[i];
  }
  TENON_HD static void store(const Sum& sum, float* to, unsigned stride) {
    nvcuda::wmma::store_matrix_sync(to, sum, stride, nvcuda::wmma::mem_row_major);
  }
#else // called on a device alone
  TENON_HD static void load_left(Left&, const std::uint16_t*, unsigned) {}
  TENON_HD static void load_right(Right&, const std::uint16_t*, unsigned) {}
  TENON_HD static void fill(Sum&, float) {}
  TENON_HD static void add_product(Sum&, const Left&, const Right&) {}
  TENON_HD static void scale(Sum&, float) {}
  TENON_HD static void add_scaled(Sum&, float, const Sum&) {}
  TENON_HD static void store(const Sum&, float*, unsigned) {}
#endif
};

} // namespace tenon::gpu

#endif

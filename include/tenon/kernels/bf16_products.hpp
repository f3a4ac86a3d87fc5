// SPDX-License-Identifier: Apache-2.0
// The products that a session may ask for where its weights are bfloat16: with inputs rounded to that type, on the pairs
// or tiles of the processor. rounded_product.hpp has the arithmetic.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/kernels/product_backend.hpp>

#if TENON_HAS_BODIES
#include <tenon/kernels/rounded_product.hpp>
#endif

namespace tenon {

/// A ProductBackend's.
TENON_INLINE bool add_rounded_product(kernels::ConstMatrix x, kernels::WeightMatrix w, kernels::Matrix y,
                                      kernels::Workers workers) noexcept;

/// For `session.use_products(&tn::bf16_products)`: products of nine rows or more with weights of bfloat16 take their
/// inputs rounded to bfloat16 (a relative error of at most 2^-9 of each; numbers and sums below 2^-126 are zeros, inputs
/// beyond bfloat16's range infinite) where the processor has AVX512_BF16 or AMX; all others are as without it. Side paths
/// and merges stay as they are.
inline constexpr kernels::ProductBackend bf16_products{"bf16", &add_rounded_product};

#if TENON_HAS_BODIES
TENON_INLINE bool add_rounded_product(kernels::ConstMatrix x, kernels::WeightMatrix w, kernels::Matrix y,
                                      kernels::Workers workers) noexcept {
  const kernels::VectorKernels& loops = kernels::vector_kernels();
  if (w.dtype != DType::bf16 || x.rows <= kernels::gemm_few_rows || loops.multiply_pairs == nullptr)
    return false;
#if defined(__x86_64__)
  if (loops.set == kernels::InstructionSet::amx)
    kernels::multiply_on_tiles<kernels::ProcessorTiles>(loops, x, w, 1.0f, y, workers, 1);
  else
    kernels::multiply_rounded(loops, x, w, 1.0f, y, workers);
#endif
  return true;
}
#endif

} // namespace tenon

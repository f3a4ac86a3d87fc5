// SPDX-License-Identifier: Apache-2.0
// oneDNN (https://uxlfoundation.github.io/oneDNN, version 2 or 3) for the products with float weights:
//   session.use_products(&tn::onednn_products);
// Link the CMake target tenon::onednn, which is there where find_package(dnnl) finds it. Whether it is faster
// than Tenon's own kernels depends on processor and shape: docs/performance.md. What it costs: oneDNN takes
// memory of its own, which no ledger sees and a forward pass then allocates; its sums are in an order of its
// own, which may depend on the number of threads. Weights of 16 bits run on Tenon's kernels.
#pragma once

#include <tenon/kernels/product_backend.hpp>

#include <oneapi/dnnl/dnnl.hpp>

#include <cstddef>
#include <cstdint>

#if DNNL_CPU_RUNTIME == DNNL_RUNTIME_OMP
extern "C" __attribute__((weak)) void
omp_set_num_threads(int); // of whichever OpenMP oneDNN itself is linked with
#endif

namespace tenon {

/// oneDNN's description of a row-major float matrix, or of its transpose.
[[nodiscard]] inline dnnl::memory::desc onednn_matrix(std::int64_t rows, std::int64_t cols,
                                                      std::int64_t row_stride, std::int64_t col_stride) {
  return {{rows, cols}, dnnl::memory::data_type::f32, {row_stride, col_stride}};
}

/// y += x w^T by oneDNN's matmul, for float operands; false for others, and where oneDNN refuses.
inline bool onednn_add_product(kernels::ConstMatrix x, kernels::WeightMatrix w, kernels::Matrix y,
                               [[maybe_unused]] kernels::Workers workers) noexcept {
  if (w.dtype != DType::f32 || reinterpret_cast<std::uintptr_t>(w.data) % alignof(float) != 0) return false;
  try {
    static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    thread_local dnnl::stream stream(engine);
#if DNNL_CPU_RUNTIME == DNNL_RUNTIME_OMP
    if (omp_set_num_threads != nullptr) omp_set_num_threads(workers.threads());
#endif
    const auto x_desc = onednn_matrix(x.rows, x.cols, x.stride, 1);
    const auto w_desc = onednn_matrix(w.cols, w.rows, 1, w.stride); // [in, out]
    const auto y_desc = onednn_matrix(y.rows, y.cols, y.stride, 1);
    dnnl::post_ops adds;
    adds.append_sum(1.0f);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(adds);
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc described(engine, x_desc, w_desc, y_desc, attributes);
#else
    const dnnl::matmul::primitive_desc described({x_desc, w_desc, y_desc}, attributes, engine);
#endif
    // oneDNN reads the first two; its interface has no const
    dnnl::memory x_memory(x_desc, engine,
                          const_cast<float*>(x.data)); // NOLINT(cppcoreguidelines-pro-type-const-cast)
    dnnl::memory w_memory(w_desc, engine,
                          const_cast<std::byte*>(w.data)); // NOLINT(cppcoreguidelines-pro-type-const-cast)
    dnnl::memory y_memory(y_desc, engine, y.data);
    dnnl::matmul(described).execute(
        stream, {{DNNL_ARG_SRC, x_memory}, {DNNL_ARG_WEIGHTS, w_memory}, {DNNL_ARG_DST, y_memory}});
    stream.wait();
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

inline constexpr kernels::ProductBackend onednn_products{"oneDNN", &onednn_add_product};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// The kernels of the CMake target tenon::kernels, compiled once.
#if !defined(TENON_SEPARATE_KERNELS)
#define TENON_SEPARATE_KERNELS
#endif
#define TENON_KERNELS_SOURCE
#include <tenon/kernels/merge_kernels.hpp>
#include <tenon/kernels/vector_kernels.hpp>

namespace tenon::kernels {

const VectorKernels& vector_kernels() { return vector_kernels(active_instruction_set()); }

} // namespace tenon::kernels

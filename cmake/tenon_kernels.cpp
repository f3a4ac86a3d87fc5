// SPDX-License-Identifier: Apache-2.0
// The kernels of the CMake target tenon::kernels, compiled once.
#define TENON_KERNELS_SOURCE
#include <tenon/kernels/vector_kernels.hpp>

// SPDX-License-Identifier: Apache-2.0
// The inner loops compiled for each instruction set, by including their text once for each. A program may
// have this compiled once rather than in every translation unit: see vector_kernels.hpp.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/tile_unit.hpp>
#include <tenon/weights/dtype.hpp>
#include <tenon/weights/fp8.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

namespace tenon::kernels {

namespace portable {
#if defined(__AVX512F__)
#define TENON_LANES 16
#define TENON_ROWS 8
#elif defined(__AVX__)
#define TENON_LANES 8
#define TENON_ROWS 6
#else
#define TENON_LANES 4
#define TENON_ROWS 6
#endif
#define TENON_TARGET
#define TENON_HAS_F16C 0
#include <tenon/kernels/vector_kernels.inc>
} // namespace portable

#if defined(__x86_64__)
namespace avx2 {
#define TENON_LANES 8
#define TENON_ROWS 6
#define TENON_TARGET __attribute__((target("avx2,fma,f16c")))
#define TENON_HAS_F16C 1
#include <tenon/kernels/vector_kernels.inc>
} // namespace avx2

namespace avx512 {
#define TENON_LANES 16
#define TENON_ROWS 8
#define TENON_TARGET __attribute__((target("avx512f,avx2,fma,f16c")))
#define TENON_HAS_F16C 1
#include <tenon/kernels/vector_kernels.inc>
#define TENON_TARGET __attribute__((target("avx512f,avx2,fma,f16c")))
#include <tenon/kernels/pair_kernels.inc>
} // namespace avx512
#endif

} // namespace tenon::kernels

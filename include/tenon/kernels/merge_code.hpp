// SPDX-License-Identifier: Apache-2.0
// The merge's inner loops compiled for each instruction set, by including its text once for each behind that of
// the other loops. A program may have this compiled once: see vector_kernels.hpp.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/merge_loss.hpp>
#include <tenon/kernels/merge_part.hpp>
#include <tenon/kernels/vector_code.hpp>
#include <tenon/weights/dtype.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

namespace tenon::kernels {

namespace portable {
#define TENON_TARGET
#define TENON_PACKS_EIGHT 0
#if defined(__AVX__)
#define TENON_STREAM "vmovntps"
#elif defined(__SSE2__)
#define TENON_STREAM "movntps"
#endif
#include <tenon/kernels/merge_kernels.inc>
} // namespace portable

#if defined(__x86_64__)
namespace avx2 {
#define TENON_TARGET __attribute__((target("avx2,fma,f16c")))
#define TENON_PACKS_EIGHT 1
#define TENON_STREAM "vmovntps"
#include <tenon/kernels/merge_kernels.inc>
} // namespace avx2

namespace avx512 {
#define TENON_TARGET __attribute__((target("avx512f,avx2,fma,f16c")))
#define TENON_PACKS_EIGHT 0
#define TENON_STREAM "vmovntps"
#include <tenon/kernels/merge_kernels.inc>
#define TENON_TARGET __attribute__((target("avx512f,avx2,fma,f16c")))
#include <tenon/kernels/merge_pairs.inc>
} // namespace avx512
#endif

} // namespace tenon::kernels

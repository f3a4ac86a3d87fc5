// SPDX-License-Identifier: Apache-2.0
// Which machine device code is compiled for. nvcc makes it CUDA; another compiler takes one of Thrust's systems on the
// processor (THRUST_DEVICE_SYSTEM: CPP if nothing is said, OMP, TBB), where a device pointer is an ordinary one and all
// of this can be executed and tested without a GPU. Thrust 1.17 and the one in CUDA 13.
#pragma once

#if !defined(__CUDACC__) && !defined(THRUST_DEVICE_SYSTEM)
#define THRUST_DEVICE_SYSTEM THRUST_DEVICE_SYSTEM_CPP
#endif

#include <thrust/detail/config.h>

#if THRUST_DEVICE_SYSTEM == THRUST_DEVICE_SYSTEM_CUDA && !defined(__CUDACC__)
#error                                                                                                       \
    "tenon: THRUST_DEVICE_SYSTEM is CUDA, and this compiler is not nvcc; compile with nvcc, or take CPP, OMP or TBB"
#endif

/// 1 where device code is compiled for CUDA.
#define TENON_ON_CUDA (THRUST_DEVICE_SYSTEM == THRUST_DEVICE_SYSTEM_CUDA)

/// Before a function that both the processor and a device call.
#if defined(__CUDACC__)
#define TENON_HD __host__ __device__
#else
#define TENON_HD
#endif

/// Before a loop whose arrays are to be registers of a device; before one whose body is to be there once.
#if defined(__CUDACC__)
#define TENON_UNROLL _Pragma("unroll")
#define TENON_ROLLED _Pragma("unroll 1")
#else
#define TENON_UNROLL
#define TENON_ROLLED
#endif

#include <string_view>

namespace tenon::gpu {

/// "CUDA", "OMP", "TBB" or "CPP".
inline constexpr std::string_view system_name =
#if TENON_ON_CUDA
    "CUDA";
#elif THRUST_DEVICE_SYSTEM == THRUST_DEVICE_SYSTEM_OMP
    "OMP";
#elif THRUST_DEVICE_SYSTEM == THRUST_DEVICE_SYSTEM_TBB
    "TBB";
#else
    "CPP";
#endif

} // namespace tenon::gpu

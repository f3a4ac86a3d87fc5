// SPDX-License-Identifier: Apache-2.0
// Tenon is header-only. A program of many sources may have what are no templates (reading files, attaching, the kernels)
// compiled once: with TENON_COMPILED defined in all of them the headers only declare it, and cmake/tenon_compiled.cpp has
// the bodies; cmake/tenon_compiled_making.cpp has those of what makes and changes adapters, which needs Eigen. The CMake
// target tenon::compiled does all of it.
#pragma once

#if !defined(TENON_COMPILED)
#define TENON_INLINE inline
#define TENON_HAS_BODIES 1
#define TENON_HAS_MAKING_BODIES 1
#else
#define TENON_INLINE
#if defined(TENON_COMPILED_SOURCE)
#define TENON_HAS_BODIES 1
#else
#define TENON_HAS_BODIES 0
#endif
#if defined(TENON_COMPILED_MAKING_SOURCE)
#define TENON_HAS_MAKING_BODIES 1
#else
#define TENON_HAS_MAKING_BODIES 0
#endif
#endif

// SPDX-License-Identifier: Apache-2.0
// Tenon's version, for `#if` and for CMake, which reads the three numbers from this file. Semantic
// versioning; below 1.0 a minor version may break source compatibility.
#pragma once

#define TENON_VERSION_MAJOR 0
#define TENON_VERSION_MINOR 1
#define TENON_VERSION_PATCH 0

/// One number that grows with every release: 0.1.0 is 100, 1.2.3 is 10203.
#define TENON_VERSION (TENON_VERSION_MAJOR * 10000 + TENON_VERSION_MINOR * 100 + TENON_VERSION_PATCH)

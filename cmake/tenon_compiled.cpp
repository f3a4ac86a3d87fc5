// SPDX-License-Identifier: Apache-2.0
// What the CMake target tenon::compiled compiles once for a program; see core/compiled.hpp.
#if !defined(TENON_COMPILED)
#define TENON_COMPILED
#endif
#define TENON_COMPILED_SOURCE
#include <tenon/adapters/export.hpp>
#include <tenon/adapters/file_targets.hpp>
#include <tenon/adapters/inspect.hpp>
#include <tenon/adapters/merged_checkpoint.hpp>
#include <tenon/tenon.hpp>

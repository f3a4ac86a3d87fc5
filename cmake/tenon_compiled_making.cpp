// SPDX-License-Identifier: Apache-2.0
// The second source of the CMake target tenon::compiled, empty where there is no Eigen; see core/compiled.hpp.
#if __has_include(<Eigen/Core>)
#if !defined(TENON_COMPILED)
#define TENON_COMPILED
#endif
#define TENON_COMPILED_MAKING_SOURCE
#include <tenon/adapters/combine_sets.hpp>
#include <tenon/adapters/extract.hpp>
#include <tenon/adapters/lora_set_of.hpp>
#include <tenon/adapters/resize.hpp>
#endif

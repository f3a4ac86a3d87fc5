// SPDX-License-Identifier: Apache-2.0
// Units of memory, so that a budget reads `512 * tn::MiB`.
#pragma once

#include <cstdint>

namespace tenon {

inline constexpr std::int64_t KiB = 1024;
inline constexpr std::int64_t MiB = 1024 * KiB;
inline constexpr std::int64_t GiB = 1024 * MiB;

} // namespace tenon

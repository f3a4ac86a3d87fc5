// SPDX-License-Identifier: Apache-2.0
// For the mistakes that a destructor meets and cannot throw: say it and stop, before memory is used that is
// gone.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace tenon {

/// Writes one line to stderr and aborts.
[[noreturn]] inline void fatal(const char* sentence) noexcept {
  std::fputs("tenon: ", stderr);
  std::fputs(sentence, stderr);
  std::fputc('\n', stderr);
  std::abort();
}

} // namespace tenon

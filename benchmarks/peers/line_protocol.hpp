// SPDX-License-Identifier: Apache-2.0
// What our programs beside PyTorch's and PEFT's share: times of a call, the memory of this process in KiB (Linux only),
// and the lines that answer questions.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

namespace tenon::peers {

template <class F>
[[nodiscard]] double seconds(F f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The mean of as many calls as take 5 ms, at least one after the first; the first counts if it is long.
template <class F>
[[nodiscard]] double mean_seconds(F f) {
  const double once = seconds(f);
  if (once > 0.1) return once;
  const int count = once * 10'000 < 5e-3 ? 10'000 : static_cast<int>(5e-3 / once) + 1;
  const double all = seconds([&] {
    for (int i = 0; i < count; ++i) f();
  });
  return all / count;
}

/// A line of /proc/self/status: VmRSS, VmHWM (the peak of it), RssAnon.
[[nodiscard]] inline std::int64_t status_kilobytes(const std::string& name) {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line))
    if (line.starts_with(name + ":")) return std::stoll(line.substr(name.size() + 1));
  return 0;
}

/// From here on VmHWM counts anew.
inline void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

/// Threads for a session's forward passes and attaches; false where it has only one.
template <class S>
[[nodiscard]] bool use_threads(S& session, int count) {
  if constexpr (requires { session.use_threads(count); }) {
    session.use_threads(count);
    return true;
  } else {
    return count == 1;
  }
}

/// Answers questions until there are none: `ours.answer(question, words)` to each.
template <class Ours>
void serve(Ours& ours) {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string question;
    words >> question;
    const std::string answer = ours.answer(question, words);
    std::cout << question << ' ' << answer << ' ' << status_kilobytes("VmRSS") << std::endl;
  }
}

} // namespace tenon::peers

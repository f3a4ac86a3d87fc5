// SPDX-License-Identifier: Apache-2.0
// Where fetch_model.sh puts the sentence encoder, and whether it is there.
#pragma once

#include <cstdlib>
#include <fstream>
#include <string>

namespace sentences {

/// The value of an environment variable; empty if it is not set.
[[nodiscard]] inline std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// ${TENON_CACHE:-$HOME/.cache/tenon}/all-MiniLM-L6-v2, as in fetch_model.sh.
[[nodiscard]] inline std::string model_folder() {
  const std::string cache = environment("TENON_CACHE");
  return (cache.empty() ? environment("HOME") + "/.cache/tenon" : cache) + "/all-MiniLM-L6-v2";
}

/// Whether both files that we read can be opened; their bytes are not checked (fetch_model.sh --check does
/// that).
[[nodiscard]] inline bool has_model(const std::string& folder) {
  return std::ifstream(folder + "/model.safetensors").good() && std::ifstream(folder + "/vocab.txt").good();
}

} // namespace sentences

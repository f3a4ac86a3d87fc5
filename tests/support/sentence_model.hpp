// SPDX-License-Identifier: Apache-2.0
// The sentence encoder for tests: it is fetched, not in the repository. A test without it says that it skips,
// and why; with TENON_REQUIRE_MODELS=1 it fails instead.
//   const auto folder = fetched_model();
//   if (!folder) return;
#pragma once

#include <doctest/doctest.h>
#include <sentences/model_folder.hpp>

#include <optional>
#include <string>

namespace tenon::test {

/// Folder with model.safetensors and vocab.txt. Inside a test case only.
[[nodiscard]] inline std::optional<std::string> fetched_model() {
  const std::string folder = sentences::model_folder();
  if (sentences::has_model(folder)) return folder;
  const std::string reason =
      "no model in " + folder + "; run examples/sentences/fetch_model.sh, or set TENON_CACHE";
  if (sentences::environment("TENON_REQUIRE_MODELS") == "1") FAIL(reason);
  MESSAGE("skipped: " << reason);
  return std::nullopt;
}

} // namespace tenon::test

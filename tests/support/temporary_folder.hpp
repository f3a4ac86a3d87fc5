// SPDX-License-Identifier: Apache-2.0
// A folder of its own for a test, removed with all it holds at the end.
#pragma once

#include <atomic>
#include <filesystem>
#include <random>
#include <string>
#include <string_view>

namespace tenon::test {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    static std::atomic<int> next{0};
    const std::string name =
        "tenon-test-" + std::to_string(std::random_device{}()) + "-" + std::to_string(next++);
    path_ = std::filesystem::temp_directory_path() / name;
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] std::string path() const { return path_.string(); }
  /// "<folder>/<name>"
  [[nodiscard]] std::string file(std::string_view name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

} // namespace tenon::test

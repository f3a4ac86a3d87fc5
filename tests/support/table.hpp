// SPDX-License-Identifier: Apache-2.0
// Tables of tests/goldens: a line a row, cells between tabs, lines that begin with # left out.
#pragma once

#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace tenon::test {

[[nodiscard]] inline std::vector<std::vector<std::string>> read_table(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("no table " + path);
  std::vector<std::vector<std::string>> rows;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    std::vector<std::string> cells(1);
    for (const char c : line)
      if (c == '\t')
        cells.emplace_back();
      else
        cells.back() += c;
    rows.push_back(std::move(cells));
  }
  return rows;
}

} // namespace tenon::test

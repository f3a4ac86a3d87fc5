// SPDX-License-Identifier: Apache-2.0
// Tables for people: rows of cells as lines, columns as wide as their widest cell.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

namespace tenon {

/// "0.5", "3.0517e-05": six digits at most.
[[nodiscard]] inline std::string rounded_text(double value) {
  char text[32];
  const int size = std::snprintf(text, sizeof text, "%.6g", value);
  return {text, static_cast<std::size_t>(size > 0 ? size : 0)};
}

/// A line for each row, two spaces between columns, nothing at the ends of lines. Rows may be shorter than the first.
[[nodiscard]] inline std::string text_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> width(rows.empty() ? 0 : rows.front().size(), 0);
  for (const std::vector<std::string>& row : rows)
    for (std::size_t i = 0; i < row.size() && i < width.size(); ++i)
      if (row[i].size() > width[i]) width[i] = row[i].size();
  std::string out;
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size() && i < width.size(); ++i) {
      if (i > 0) line += "  ";
      line += row[i];
      line.append(width[i] - row[i].size(), ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line;
    out += '\n';
  }
  return out;
}

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// What bench_gpu says: a figure beside the reference that was measured in the same process, their ratio, and the goal.
// For people on stdout, as JSON for scripts.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

namespace tenon::bench {

/// What a figure, or its ratio to the reference, is to be.
struct Goal {
  enum class Of { none, value, ratio } of = Of::none;
  enum class Bound { at_most, at_least } bound = Bound::at_most;
  double limit = 0;

  [[nodiscard]] bool is_met(double value, double ratio) const noexcept {
    const double found = of == Of::ratio ? ratio : value;
    return bound == Bound::at_most ? found <= limit : found >= limit;
  }
};
[[nodiscard]] constexpr Goal ratio_at_least(double limit) {
  return {Goal::Of::ratio, Goal::Bound::at_least, limit};
}
[[nodiscard]] constexpr Goal ratio_at_most(double limit) {
  return {Goal::Of::ratio, Goal::Bound::at_most, limit};
}
[[nodiscard]] constexpr Goal at_most(double limit) { return {Goal::Of::value, Goal::Bound::at_most, limit}; }

struct Row {
  std::string key;  ///< for scripts
  std::string what; ///< for people
  double value = 0;
  std::string unit{};
  double reference = 0;       ///< in the same unit; 0: there is none
  std::string reference_is{}; ///< in words
  Goal goal{};
  std::string note{};

  [[nodiscard]] double ratio() const noexcept { return reference == 0 ? 0 : value / reference; }
};

class Table {
 public:
  /// Goals are a GPU's: with `judges` false none is said to be met or missed.
  Table(std::string where, bool judges) : where_(std::move(where)), judges_(judges) {}

  void add(Row row) {
    std::fprintf(stderr, "  %s: %s %s\n", row.what.c_str(), number(row.value).c_str(), row.unit.c_str());
    rows_.push_back(std::move(row));
  }

  void print() const {
    std::printf("%s\n%-62s %12s %12s %-8s %8s  %-13s %-4s %s\n", where_.c_str(), "", "measured", "reference",
                "unit", "ratio", "goal", "met", "reference is");
    for (const Row& row : rows_) {
      const bool has_reference = row.reference != 0;
      std::printf("%-62s %12s %12s %-8s %8s  %-13s %-4s %s%s%s\n", row.what.c_str(),
                  number(row.value).c_str(), has_reference ? number(row.reference).c_str() : "-",
                  row.unit.c_str(), has_reference ? number(row.ratio()).c_str() : "-", goal_text(row).c_str(),
                  met_text(row), row.reference_is.c_str(),
                  row.note.empty() || row.reference_is.empty() ? "" : "; ", row.note.c_str());
    }
  }

  void write(const std::string& path) const {
    std::ofstream file(path);
    file << "{\"where\": " << quoted(where_) << ", \"rows\": [";
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const Row& row = rows_[i];
      file << (i == 0 ? "\n" : ",\n") << " {\"key\": " << quoted(row.key)
           << ", \"what\": " << quoted(row.what) << ", \"value\": " << number(row.value, 9)
           << ", \"unit\": " << quoted(row.unit) << ", \"reference\": " << number(row.reference, 9)
           << ", \"reference_is\": " << quoted(row.reference_is) << ", \"goal\": " << quoted(goal_text(row))
           << ", \"met\": " << quoted(met_text(row)) << ", \"note\": " << quoted(row.note) << "}";
    }
    file << "\n]}\n";
    file.close();
    if (!file) throw error(ErrorCode::io, concat(path, ": expected room for the figures"));
  }

 private:
  [[nodiscard]] static std::string number(double value, int digits = 4) {
    char text[40];
    std::snprintf(text, sizeof text, "%.*g", digits, value);
    return text;
  }
  [[nodiscard]] static std::string goal_text(const Row& row) {
    if (row.goal.of == Goal::Of::none) return "";
    return concat(row.goal.bound == Goal::Bound::at_most ? "<= " : ">= ", number(row.goal.limit),
                  row.goal.of == Goal::Of::ratio || row.unit.empty() ? "" : concat(" ", row.unit));
  }
  [[nodiscard]] const char* met_text(const Row& row) const {
    if (!judges_ || row.goal.of == Goal::Of::none) return "";
    return row.goal.is_met(row.value, row.ratio()) ? "yes" : "NO";
  }
  [[nodiscard]] static std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
      if (c == '"' || c == '\\') out += '\\';
      out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    return out + "\"";
  }

  std::string where_;
  bool judges_;
  std::vector<Row> rows_{};
};

} // namespace tenon::bench

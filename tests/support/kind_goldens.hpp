// SPDX-License-Identifier: Apache-2.0
// The goldens of adapter kinds (tests/goldens/kinds): a line of their manifest a case, and the weights that the tools
// merged.
#pragma once

#include "support/file_bytes.hpp"

#include <tenon/core/text.hpp>
#include <tenon/weights/convert.hpp>
#include <tenon/weights/safetensors.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

namespace tenon::test {

struct KindCase {
  std::string name{}; ///< "lora-plain@0.5": also how the keys of its goldens begin
  std::string tool{}; ///< "peft", "lycoris" or "kohya"
  std::string adapter{};
  std::string base{};
  std::string kind{};
  double strength = 1;
  double tolerance = 1e-6; ///< relative to the largest weight
  std::string forward{};
  std::string adapter_name{}; ///< of a file with several: "names-two:second@1"
};

[[nodiscard]] inline std::string kind_goldens(const std::string& name) {
  return concat(TENON_TEST_DATA, "/goldens/kinds/", name);
}

[[nodiscard]] inline std::vector<KindCase> read_kind_cases() {
  std::vector<KindCase> out;
  std::istringstream text(read_file(kind_goldens("manifest.tsv")));
  for (std::string line; std::getline(text, line);) {
    if (line.empty() || line.front() == '#') continue;
    std::vector<std::string> fields;
    std::istringstream parts(line);
    for (std::string field; std::getline(parts, field, '\t');) fields.push_back(field);
    KindCase one{fields.at(0),
                 fields.at(1),
                 kind_goldens(fields.at(2)),
                 kind_goldens(fields.at(3)),
                 fields.at(4),
                 std::stod(fields.at(5)),
                 std::stod(fields.at(6)),
                 fields.at(7)};
    const std::size_t colon = one.name.find(':');
    if (colon != std::string::npos)
      one.adapter_name = one.name.substr(colon + 1, one.name.find('@') - colon - 1);
    out.push_back(std::move(one));
  }
  return out;
}

[[nodiscard]] inline std::vector<float> values_of(const TensorView& view) {
  std::vector<float> out(static_cast<std::size_t>(view.size()));
  decode(view.dtype, view.data, view.size(), out.data());
  return out;
}

/// The largest difference over the largest expected value.
[[nodiscard]] inline double largest_difference(const std::vector<float>& got,
                                               const std::vector<float>& expected) {
  double largest = 0;
  double difference = got.size() == expected.size() ? 0 : HUGE_VAL;
  for (std::size_t i = 0; i < std::min(got.size(), expected.size()); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    difference =
        std::max(difference, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
  }
  return largest > 0 ? difference / largest : difference;
}

} // namespace tenon::test

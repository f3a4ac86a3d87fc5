// SPDX-License-Identifier: Apache-2.0
// A small random model of a real class with what that class computed (tests/goldens/make_model_goldens.py), and the names
// and shapes of the released ones (make_model_names.py).
#pragma once

#include <doctest/doctest.h>

#include <tenon/tenon.hpp>
#include <tenon/weights/safetensors.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace tenon::test {

/// Largest difference allowed, as a share of the reference's largest entry: what the references themselves hold to
/// between float32 and float64.
inline constexpr double model_tolerance = 1e-5;

struct ModelGoldens {
  std::string folder;
  Ledger ledger{};
  SafetensorsFile file;

  explicit ModelGoldens(const std::string& name)
      : folder(TENON_TEST_DATA "/goldens/models/" + name + "/"),
        file(folder + "io.safetensors", ledger, Category::base_owned) {}

  [[nodiscard]] TensorView at(const std::string& key) const { return file.at(key); }
  [[nodiscard]] std::string model() const { return folder + "model.safetensors"; }
  [[nodiscard]] std::string adapter() const { return folder + "adapter"; }
};

[[nodiscard]] inline std::span<const float> floats_of(const TensorView& view) {
  REQUIRE(view.dtype == DType::f32);
  return {reinterpret_cast<const float*>(view.data), static_cast<std::size_t>(view.size())};
}

/// max |a - b| / max |b|, over the rows of the last dimension that `mask` keeps (all of them without one).
[[nodiscard]] inline double difference(const TensorView& a, const TensorView& b,
                                       const TensorView* mask = nullptr) {
  REQUIRE(a.size() == b.size());
  const std::span<const float> ours = floats_of(a);
  const std::span<const float> theirs = floats_of(b);
  const auto width = static_cast<std::size_t>(b.extent(b.rank - 1));
  double largest = 0;
  double most = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    if (mask != nullptr && floats_of(*mask)[i / width] == 0) continue;
    if (std::isnan(ours[i])) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(static_cast<double>(theirs[i])));
    most = std::max(most, std::abs(static_cast<double>(ours[i]) - static_cast<double>(theirs[i])));
  }
  return most / largest;
}

/// "name [d, d]" of every tensor, sorted: what a net asks a checkpoint for.
template <class Net>
[[nodiscard]] std::vector<std::string> names_of_net() {
  const Program& program = program_of<Net>();
  std::vector<std::string> names;
  for (const WeightEntry& entry : program.weights)
    for (std::int32_t copy = 0; copy < entry.copies; ++copy)
      names.push_back(expanded_path(program, entry.path, entry.loop, copy) + " " + shape_text(entry.shape()));
  std::ranges::sort(names);
  return names;
}

/// The same of a released model, from its lines `copies pattern extents`.
[[nodiscard]] inline std::vector<std::string> names_of_release(const std::string& model) {
  std::ifstream in(TENON_TEST_DATA "/goldens/models/names/" + model + ".txt");
  REQUIRE(in.good());
  std::vector<std::string> names;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream fields(line);
    std::int64_t copies = 0;
    std::string pattern;
    std::string extents;
    fields >> copies >> pattern >> extents;
    std::vector<std::int64_t> shape;
    for (std::istringstream numbers(extents); std::getline(numbers, extents, ',');)
      shape.push_back(std::stoll(extents));
    for (std::int64_t i = 0; i < copies; ++i) {
      std::string name = pattern;
      if (const std::size_t mark = name.find('*'); mark != std::string::npos)
        name.replace(mark, 1, std::to_string(i));
      names.push_back(name + " " + shape_text(shape));
    }
  }
  std::ranges::sort(names);
  return names;
}

} // namespace tenon::test

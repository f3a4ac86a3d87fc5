// SPDX-License-Identifier: Apache-2.0
// A small model of a real class with its weights rounded to BF16, against what that class computes with those: in float64,
// and wholly in bfloat16 (tests/goldens/README.md). Tenon keeps BF16 weights as they are and computes in float32.
#pragma once

#include "support/model_goldens.hpp"
#include "support/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <tenon/weights/convert.hpp>
#include <tenon/weights/safetensors_writer.hpp>

#include <array>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tenon::test {

/// How far a class' own run in bfloat16 may be from float64, as a share of the largest entry: 1 and the number below it
/// are 2^-8 apart, and the errors of layers add up.
inline constexpr double bf16_tolerance = 16.0 / 256;

/// The file at `from` with each number rounded to BF16, at `to`.
inline void write_in_bf16(const std::string& from, const std::string& to) {
  Ledger ledger;
  const SafetensorsFile file(from, ledger, Category::base_owned);
  std::vector<std::vector<std::byte>> rounded;
  std::vector<NamedTensor> tensors;
  for (const TensorEntry& entry : file.entries()) {
    const std::span<const float> values = floats_of(file.view(entry));
    std::vector<std::byte>& bytes = rounded.emplace_back(2 * values.size());
    encode(DType::bf16, values.data(), std::ssize(values), bytes.data());
    tensors.push_back({entry.name, {bytes.data(), DType::bf16, entry.shape()}});
  }
  write_safetensors(to, tensors);
}

/// The goldens of a model with rounded weights, beside those of the model as it is: `exact.at("logits")` in float64,
/// `exact.at("bfloat16.logits")` wholly in bfloat16.
struct Bf16Goldens : ModelGoldens {
  TemporaryFolder rounded{};
  SafetensorsFile exact;

  explicit Bf16Goldens(const std::string& name)
      : ModelGoldens(name), exact(folder + "bf16.safetensors", ledger, Category::base_owned) {
    write_in_bf16(ModelGoldens::model(), model());
  }

  [[nodiscard]] std::string model() const { return rounded.file("model.safetensors"); }
  [[nodiscard]] std::string adapter() const {
    const std::string of_diffusers = folder + "pytorch_lora_weights.safetensors";
    return std::filesystem::exists(of_diffusers) ? of_diffusers : ModelGoldens::adapter();
  }
};

/// Output `index` of a net, and its key in the goldens.
struct GoldenOutput {
  std::size_t index;
  const char* key;
};

/// `inputs` are keys of io.safetensors. Ours is within 1e-5 of float64, and as far from the run in bfloat16 as that is from
/// float64; so with the adapter aside. Merged, whose sum is rounded to BF16 once, is no further than the run in bfloat16.
template <class Net>
void check_bf16(const std::string& name, const std::array<const char*, Net::inputs>& inputs,
                const std::vector<GoldenOutput>& outputs = {{0, "output"}}) {
  const Bf16Goldens goldens(name);
  const std::optional<TensorView> mask = goldens.file.find("mask");
  const TensorView* const rows = mask ? &*mask : nullptr;
  const auto model = open<Net>(goldens.model());
  Session<Net> session(model);
  const auto run = [&] {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (void)session.run(goldens.at(inputs[I])...);
    }(std::make_index_sequence<Net::inputs>());
  };
  const auto gap = [&](const std::string& key) {
    return difference(goldens.exact.at("bfloat16." + key), goldens.exact.at(key), rows);
  };

  run();
  for (const auto& [index, key] : outputs) {
    CAPTURE(key);
    const TensorView ours = session.output(index);
    CHECK(difference(ours, goldens.exact.at(key), rows) < model_tolerance);
    CHECK(gap(key) < bf16_tolerance);
    CHECK(difference(goldens.exact.at(std::string("bfloat16.") + key), ours, rows) <
          gap(key) + 2 * model_tolerance);
  }
  if (!goldens.exact.find(std::string("adapted.") + outputs.front().key)) return;

  const auto adapter = load_adapter<Net>(goldens.adapter());
  const auto check_adapted = [&](bool is_merged) {
    run();
    for (const auto& [index, key] : outputs) {
      CAPTURE(key);
      CAPTURE(is_merged);
      const TensorView expected = goldens.exact.at(std::string("adapted.") + key);
      CHECK(difference(session.output(index), expected, rows) < (is_merged ? gap(key) : model_tolerance));
    }
  };
  {
    const auto guard = session.attach(adapter);
    check_adapted(false);
  }
  const auto guard = session.template attach<merged>(adapter);
  check_adapted(true);
}

} // namespace tenon::test

// SPDX-License-Identifier: Apache-2.0
// Every kind of adapter against what PEFT and LyCORIS themselves compute: tests/goldens/kinds/manifest.tsv.
#include "support/files.hpp"
#include "support/table.hpp"

#include <tenon/adapters/bind.hpp>
#include <tenon/adapters/merged_weight.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <set>

using namespace tenon;
using namespace tenon::test;

namespace {

const std::string folder = TENON_TEST_DATA "/goldens/kinds/";

/// A module's weight or bias with the adapter merged into it, as floats.
std::vector<float> merged_values(const AdapterTargets& targets, std::int32_t slot, const AdapterAt& adapter,
                                 bool is_bias, Ledger& ledger) {
  const AdapterTarget& target = targets.at(slot);
  if (is_bias) {
    std::vector<float> out(static_cast<std::size_t>(target.bias != 0 ? target.bias : target.rows));
    const kernels::WeightVector bias =
        target.bias_tensor == nullptr ? kernels::WeightVector{} : flat_vector(target.bias_tensor->view);
    (void)merge_bias(slot, flat_matrix(target.weight->view), bias, {&adapter, 1}, out, ledger);
    return out;
  }
  std::vector<float> out(static_cast<std::size_t>(target.rows * target.cols));
  MergedWeight weight(slot, flat_matrix(target.weight->view), {&adapter, 1}, ledger);
  weight.write_rows(0, target.rows, reinterpret_cast<std::byte*>(out.data()));
  return out;
}

/// What no weight of the base's shape can hold (a grouped convolution's A that sees all inputs), what the file has
/// not (VeRA's random matrices, a head that shares the embedding's weight), or Tenon does not apply: each must be
/// said, not half done.
bool is_refused(const std::string& name) {
  for (const char* refused : {"lora-conv-grouped@", "lora-trainable-tokens@", "ia3-conv-grouped@",
                              "vera-no-projection@", "lokr-conv1d-full@", "gpt2-tied-both@"})
    if (name.starts_with(refused)) return true;
  return false;
}

struct Case {
  std::string name, tool, adapter, base, kind;
  double strength, tolerance;
};

/// The greatest difference from the golden tensor, relative to its greatest element.
double relative_error(const TensorView& golden, const std::vector<float>& ours) {
  const auto* const expected = reinterpret_cast<const float*>(golden.data);
  double error = 0;
  double largest = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    error = std::max(error, std::abs(static_cast<double>(expected[i]) - static_cast<double>(ours[i])));
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return error / largest;
}

} // namespace

TEST_CASE("Weights merged with adapters of every kind are those of the tools that made them") {
  Ledger ledger;
  std::map<std::string, SafetensorsFile> goldens;
  for (const std::string tool : {"peft", "lycoris", "kohya"})
    goldens.try_emplace(tool, folder + tool + "_weights.safetensors", ledger, Category::base_owned);
  std::size_t cases = 0;
  for (const std::vector<std::string>& row : read_table(folder + "manifest.tsv")) {
    REQUIRE(row.size() >= 7);
    // LyCORIS's GLoRA under rs_lora scales by alpha / sqrt(rank) and stores alpha as it is: its own reader, which takes
    // alpha / rank, does not get the net back either
    if (row[0].starts_with("glora-rslora@")) continue;
    const Case c{row[0], row[1], row[2], row[3], row[4], std::stod(row[5]), std::stod(row[6])};
    CAPTURE(c.name);
    const Checkpoint base = Checkpoint::open(folder + c.base, ledger, Category::base_mapped);
    AdapterTargets targets = targets_of(base);
    // a file with several adapters is a case for each: `names-two:first@1`
    const std::size_t colon = c.name.find(':');
    const std::string name =
        colon == std::string::npos ? "" : c.name.substr(colon + 1, c.name.find('@') - colon - 1);
    AdapterFile file = AdapterFile::open(folder + c.adapter, {.adapter_name = name, .ledger = &ledger});
    const auto data = bind_adapter(file, targets, {}, ledger);
    if (is_refused(c.name)) {
      CHECK_FALSE(data->report.fits());
      continue;
    }
    CHECK_MESSAGE(data->report.fits(), data->report.text());
    const AdapterAt at{data.get(), c.strength};
    std::set<std::string> expected;
    for (const TensorEntry& entry : goldens.at(c.tool).entries()) {
      if (!entry.name.starts_with(c.name + "/")) continue;
      const std::string tensor(entry.name.substr(c.name.size() + 1));
      expected.insert(tensor);
      CAPTURE(tensor);
      const bool is_bias = tensor.ends_with(".bias");
      const std::string module = tensor.substr(0, tensor.rfind('.'));
      const auto found = targets.names.find(module);
      if (found.empty()) { // a head whose weight is the embedding's in the base
        CHECK(tensor == "lm_head.weight");
        continue;
      }
      const std::vector<float> ours = merged_values(targets, found[0].module, at, is_bias, ledger);
      CHECK(relative_error(goldens.at(c.tool).view(entry), ours) <= c.tolerance);
    }
    CHECK_FALSE(expected.empty());
    // and nothing else is changed
    const auto check_expected = [&](std::int32_t slot, const char* ending) {
      const std::string tensor = targets.name(slot) + ending;
      CAPTURE(tensor);
      CHECK(expected.contains(tensor));
    };
    for (const SlotFactors& factors : data->factors) check_expected(factors.slot, ".weight");
    for (const SlotDelta& delta : data->deltas) check_expected(delta.slot, ".weight");
    for (const SlotBias& bias : data->biases) check_expected(bias.slot, ".bias");
    ++cases;
  }
  CHECK(cases > 200);
}

// SPDX-License-Identifier: Apache-2.0
// Adapters under the original release's names, for projections that it fuses, give each weight what diffusers' own
// converters make of them, and the reverse: tests/goldens/kinds/keys/values.safetensors.
#include "support/temporary_folder.hpp"

#include <tenon/adapters/bind.hpp>
#include <tenon/adapters/merged_weight.hpp>
#include <tenon/weights/safetensors_writer.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <map>

using namespace tenon;
using namespace tenon::test;

namespace {

const std::string values = TENON_TEST_DATA "/goldens/kinds/keys/values.safetensors";

std::vector<float> floats(const TensorView& view) {
  std::vector<float> out(static_cast<std::size_t>(view.size()));
  decode(view.dtype, view.data, view.size(), out.data());
  return out;
}

/// B A in double.
struct Dense {
  std::int64_t rows = 0, cols = 0;
  std::vector<double> values{};
};
Dense product(const TensorView& a, const TensorView& b) {
  Dense out{b.extent(0), a.extent(1), {}};
  const std::vector<float> left = floats(b);
  const std::vector<float> right = floats(a);
  const std::int64_t rank = a.extent(0);
  for (std::int64_t i = 0; i < out.rows; ++i)
    for (std::int64_t j = 0; j < out.cols; ++j) {
      double sum = 0;
      for (std::int64_t k = 0; k < rank; ++k)
        sum += static_cast<double>(left[static_cast<std::size_t>(i * rank + k)]) *
               static_cast<double>(right[static_cast<std::size_t>(k * out.cols + j)]);
      out.values.push_back(sum);
    }
  return out;
}

/// What the keys below `prefix` change, by module: diffusers' names, alphas folded.
std::map<std::string, Dense> deltas_of(const SafetensorsFile& file, const std::string& prefix) {
  std::map<std::string, Dense> out;
  for (const TensorEntry& entry : file.entries()) {
    if (!entry.name.starts_with(prefix)) continue;
    std::string key(entry.name.substr(prefix.size()));
    std::optional<AdapterKey> parsed = parse_key(*find_dialect("diffusers"), key);
    if (!parsed) parsed = parse_key(*find_dialect("plain paths"), key);
    if (!parsed || parsed->part != AdapterPart::lora_a) continue;
    std::string other = key;
    for (const auto& [from, to] : {std::pair{"lora_A", "lora_B"}, std::pair{"layer.down", "layer.up"}})
      if (const std::size_t at = other.rfind(from); at != std::string::npos)
        other.replace(at, std::string(from).size(), to);
    out[parsed->module] = product(file.view(entry), file.at(prefix + other));
  }
  return out;
}

/// Merges the file into zeros of the shapes of `expected`, by module.
void check_merges(const std::string& path, const std::map<std::string, Dense>& expected, double tolerance,
                  const TemporaryFolder& folder) {
  Ledger ledger;
  std::vector<std::vector<float>> zeros;
  std::vector<NamedTensor> tensors;
  std::vector<std::string> names;
  names.reserve(expected.size());
  for (const auto& [module, dense] : expected) {
    zeros.emplace_back(dense.values.size(), 0.0f);
    names.push_back(module + ".weight");
    const std::array<std::int64_t, 2> shape{dense.rows, dense.cols};
    tensors.push_back({names.back(), TensorView(zeros.back().data(), DType::f32, shape)});
  }
  write_safetensors(folder.file("base.safetensors"), tensors);
  const Checkpoint base = Checkpoint::open(folder.file("base.safetensors"), ledger, Category::base_mapped);
  AdapterTargets targets = targets_of(base);
  AdapterFile file = AdapterFile::open(path, {.ledger = &ledger});
  const auto data = bind_adapter(file, targets, {}, ledger);
  CHECK_MESSAGE(data->report.fits(), data->report.text());
  const AdapterAt at{data.get(), 1};
  for (std::int32_t slot = 0; slot < std::ssize(targets.list); ++slot) {
    CAPTURE(targets.name(slot));
    const Dense& dense = expected.at(targets.name(slot));
    std::vector<float> ours(dense.values.size());
    MergedWeight weight(slot, flat_matrix(targets.at(slot).weight->view), {&at, 1}, ledger);
    CHECK(weight.is_changed());
    weight.write_rows(0, dense.rows, reinterpret_cast<std::byte*>(ours.data()));
    double error = 0;
    double largest = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      error = std::max(error, std::abs(dense.values[i] - static_cast<double>(ours[i])));
      largest = std::max(largest, std::abs(dense.values[i]));
    }
    CHECK(error <= tolerance * largest);
  }
}

/// The tensors below `prefix`, under the rest of their names, as a file.
std::string extract(const SafetensorsFile& file, const std::string& prefix, const TemporaryFolder& folder) {
  std::vector<std::string> names;
  std::vector<TensorView> views;
  for (const TensorEntry& entry : file.entries())
    if (entry.name.starts_with(prefix)) {
      names.emplace_back(entry.name.substr(prefix.size()));
      views.push_back(file.view(entry));
    }
  std::vector<NamedTensor> tensors;
  for (std::size_t i = 0; i < names.size(); ++i) tensors.push_back({names[i], views[i]});
  const std::string path = folder.file("adapter.safetensors");
  write_safetensors(path, tensors);
  return path;
}

struct Case {
  const char* name;
  double tolerance; ///< diffusers folds alpha / rank into A in the file's dtype: a rounding of that
};
constexpr Case cases[]{
    {"kohya_flux_dense_qkv", 1e-6},   {"kohya_flux_sparse_qkv", 1e-6}, {"kohya_flux_plain", 1e-6},
    {"kohya_flux_plain_f16", 1e-3},   {"kohya_flux_linear1", 8e-3},    {"xlabs_flux_qkv", 1e-6},
    {"kohya_flux_final_layer", 1e-6}, {"onetrainer_flux", 1e-6},       {"musubi_wan", 1e-6}};

} // namespace

TEST_CASE(
    "Fused projections of an adapter go to the split ones of a model as diffusers' converters have it") {
  const SafetensorsFile file(values, process_ledger(), Category::base_owned);
  for (const Case& c : cases) {
    CAPTURE(std::string(c.name));
    const TemporaryFolder folder;
    const std::string name = c.name;
    const auto expected = deltas_of(file, name + "/out/");
    REQUIRE_FALSE(expected.empty());
    check_merges(extract(file, name + "/in/", folder), expected, c.tolerance, folder);
  }
}

TEST_CASE("Split projections of an adapter go to the fused one of a model in order") {
  const SafetensorsFile file(values, process_ledger(), Category::base_owned);
  const TemporaryFolder folder;
  const std::string prefix = "kohya_flux_linear1/out/";
  const auto parts = deltas_of(file, prefix);
  std::map<std::string, Dense> expected;
  Dense& fused = expected["single_blocks.0.linear1"];
  for (const char* part : {"attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"}) {
    const Dense& dense = parts.at(std::string("single_transformer_blocks.0.") + part);
    fused.rows += dense.rows;
    fused.cols = dense.cols;
    fused.values.insert(fused.values.end(), dense.values.begin(), dense.values.end());
  }
  check_merges(extract(file, prefix, folder), expected, 1e-6, folder);
}

TEST_CASE("An adapter for a fused projection of which the model has only some parts is not half attached") {
  const SafetensorsFile file(values, process_ledger(), Category::base_owned);
  const TemporaryFolder folder;
  const std::string path = extract(file, "kohya_flux_dense_qkv/in/", folder);
  const std::vector<float> zeros(6 * 8, 0.0f);
  const std::array<std::int64_t, 2> shape{6, 8};
  write_safetensors(folder.file("base.safetensors"),
                    std::vector<NamedTensor>{{"transformer_blocks.3.attn.to_q.weight",
                                              TensorView(zeros.data(), DType::f32, shape)}});
  Ledger ledger;
  const Checkpoint base = Checkpoint::open(folder.file("base.safetensors"), ledger, Category::base_mapped);
  AdapterTargets targets = targets_of(base);
  AdapterFile adapter = AdapterFile::open(path, {.ledger = &ledger});
  const auto data = bind_adapter(adapter, targets, {}, ledger);
  CHECK(data->factors.empty());
  REQUIRE(data->report.findings.size() == 1);
  CHECK(data->report.findings[0].what == "it is for 3 projections together, of which the net has 1 slots");
}

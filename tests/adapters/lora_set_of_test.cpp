// SPDX-License-Identifier: Apache-2.0
#include "support/files.hpp"
#include "support/kind_goldens.hpp"
#include "support/lora_pairs.hpp"
#include "support/temporary_folder.hpp"

#include <tenon/adapters/bind.hpp>
#include <tenon/adapters/export.hpp>
#include <tenon/adapters/lora_set_of.hpp>

#include <doctest/doctest.h>

#include <map>

using namespace tenon;
using namespace tenon::test;

namespace {

/// An adapter's file read without a model.
Converted read_alone(const std::string& path, std::string_view component = {}) {
  AdapterFile file = AdapterFile::open(path);
  LaidOutTargets targets = targets_of(file, component);
  const auto data = bind_adapter(file, targets.targets, {.component = component});
  if (!data->report.findings.empty()) FAIL(data->report.text());
  return lora_set_of(*data, targets, {.rank = {.most = 64}});
}

bool same_set(const LoraSet& a, const LoraSet& b) {
  if (a.modules.size() != b.modules.size()) return false;
  for (const LoraModule& module : a.modules) {
    const auto other = std::find_if(b.modules.begin(), b.modules.end(),
                                    [&](const LoraModule& m) { return m.path == module.path; });
    if (other == b.modules.end() || other->target != module.target || other->kernel != module.kernel ||
        other->pair.a != module.pair.a || other->pair.b != module.pair.b ||
        other->pair.bias != module.pair.bias ||
        std::abs(other->pair.scale - module.pair.scale) > 1e-15 * std::abs(module.pair.scale))
      return false;
  }
  return true;
}

} // namespace

TEST_CASE("Every kind of adapter becomes plain LoRA with the change that its tool merges, and a true error") {
  Ledger ledger;
  std::map<std::string, SafetensorsFile> weights;
  for (const char* tool : {"peft", "lycoris", "kohya"})
    weights.emplace(tool, SafetensorsFile(kind_goldens(concat(tool, "_weights.safetensors")), ledger,
                                          Category::base_mapped));
  int compared = 0;
  for (const KindCase& one : read_kind_cases()) {
    if (one.strength != 1 || one.name.starts_with("glora-rslora@"))
      continue; // its file does not say its scale
    CAPTURE(one.name);
    const Checkpoint base = Checkpoint::open(one.base, ledger, Category::base_mapped);
    AdapterFile file = AdapterFile::open(one.adapter, {.adapter_name = one.adapter_name, .ledger = &ledger});
    LaidOutTargets targets = targets_of(base, file);
    const auto data = bind_adapter(file, targets.targets, {}, ledger);
    if (!data->report.findings.empty()) continue;
    const Converted made = lora_set_of(*data, targets, {.rank = {.most = 64}, .ledger = &ledger});
    for (std::size_t i = 0; i < made.set.modules.size(); ++i) {
      const LoraModule& module = made.set.modules[i];
      CAPTURE(module.path);
      const auto merged = weights.at(one.tool).find(concat(one.name, "/", module.path, ".weight"));
      if (!merged) continue;
      const std::vector<float> pristine = values_of(base.at(module.path + ".weight").view);
      const std::vector<float> golden = values_of(*merged);
      const std::int32_t slot = targets.targets.names.find(module.path).front().module;
      const bool is_turned = targets.layouts[static_cast<std::size_t>(slot)].is_turned;
      const DoubleMatrix delta = delta_of(is_turned ? turned(module.pair) : module.pair);
      std::vector<float> got(golden.size());
      REQUIRE(delta.values.size() == golden.size());
      for (std::size_t k = 0; k < got.size(); ++k)
        got[k] = static_cast<float>(static_cast<double>(pristine[k]) + delta.values[k]);
      // a full rank loses nothing but the rounding of its factors: a few units of 2^-24
      CHECK(largest_difference(got, golden) <= 2 * one.tolerance);
      if (!made.modules[i].is_exact) CHECK(made.modules[i].error < 1e-5);
      const auto bias = weights.at(one.tool).find(concat(one.name, "/", module.path, ".bias"));
      CHECK(module.pair.bias.empty() == !bias);
      if (bias) {
        std::vector<float> whole = values_of(base.at(module.path + ".bias").view);
        for (std::size_t k = 0; k < whole.size(); ++k) whole[k] += module.pair.bias[k];
        CHECK(largest_difference(whole, values_of(*bias)) <= 2 * one.tolerance);
      }
      ++compared;
    }
    CHECK(ledger.current()[Category::scratch] == 0);
  }
  MESSAGE(compared, " modules compared");
  CHECK(compared >= 200);
}

TEST_CASE("What is written as PEFT reads back as it was") {
  const TemporaryFolder folder;
  LoraSet set;
  set.modules.push_back({.path = "block.0.q", .pair = random_pair(6, 8, 4, 0.5, 1)});
  set.modules.push_back({.path = "conv",
                         .target = LoraTarget::convolution,
                         .kernel = {3, 2},
                         .pair = random_pair(5, 24, 3, 0.1, 4)});
  set.modules.push_back(
      {.path = "emb", .target = LoraTarget::embedding, .pair = random_pair(11, 5, 2, 1.25, 1)});
  write_peft(folder.path(), set);
  CHECK(same_set(read_alone(folder.path()).set, set));
  set.modules.pop_back();
  for (LoraModule& module : set.modules)
    module.pair.bias.assign(static_cast<std::size_t>(module.pair.out), 1.0F);
  for (LoraModule& module : set.modules) module.pair.scale = 0.5;
  write_peft(folder.path(), set);
  CHECK(same_set(read_alone(folder.path()).set, set));
}

TEST_CASE("What is written, read and written again has the same bytes") {
  const TemporaryFolder folder;
  LoraSet set;
  set.modules.push_back({.path = "a", .pair = random_pair(6, 8, 4, 0.5, 1)});
  set.modules.push_back({.path = "b", .pair = random_pair(5, 24, 3, 0.3, 4)});
  for (const DType dtype : {DType::f32, DType::bf16}) {
    write_peft(folder.file("1"), set, {.dtype = dtype});
    write_peft(folder.file("2"), read_alone(folder.file("1")).set, {.dtype = dtype});
    for (const std::string name : {"/adapter_model.safetensors", "/adapter_config.json"})
      CHECK(read_file(folder.file("1") + name) == read_file(folder.file("2") + name));
    write_kohya(folder.file("1.safetensors"), {&set, 1}, {.dtype = dtype});
    const Converted kohya = read_alone(folder.file("1.safetensors"), "denoiser");
    write_kohya(folder.file("2.safetensors"), {&kohya.set, 1}, {.dtype = dtype, .prefix = "lora_unet"});
    CHECK(read_file(folder.file("1.safetensors")) == read_file(folder.file("2.safetensors")));
  }
}

TEST_CASE("What is written as kohya or diffusers reads back with the same deltas") {
  const TemporaryFolder folder;
  LoraSet set;
  set.modules.push_back({.path = "block.0.q", .pair = random_pair(6, 8, 4, 0.5, 1, true)});
  set.modules.push_back({.path = "conv",
                         .target = LoraTarget::convolution,
                         .kernel = {3, 2},
                         .pair = random_pair(5, 24, 4, 0.5, 4)});
  set.diffs.push_back({"norm.weight", Tensor({3}, {1, 2, 3})});
  write_kohya(folder.file("k.safetensors"), {&set, 1});
  const Converted kohya = read_alone(folder.file("k.safetensors"), "denoiser");
  REQUIRE(kohya.set.modules.size() == 2);
  for (const LoraModule& module : kohya.set.modules) { // flattened names stay
    const LoraModule& before = set.modules[module.path == "conv" ? 1 : 0];
    CHECK(module.path == (module.path == "conv" ? "conv" : "block_0_q"));
    CHECK(relative_difference(delta_of(module.pair), delta_of(before.pair)) < 1e-7);
    CHECK(module.pair.bias == before.pair.bias);
  }
  REQUIRE(kohya.set.diffs.size() == 1);
  CHECK(kohya.set.diffs[0].path == "norm.weight");
  CHECK(kohya.set.diffs[0].values == set.diffs[0].values);

  set.diffs.clear();
  write_diffusers(folder.file("d.safetensors"), {&set, 1});
  const Converted diffusers = read_alone(folder.file("d.safetensors"), "denoiser");
  REQUIRE(diffusers.set.modules.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    const LoraModule& module = diffusers.set.modules[i];
    const LoraModule& before = set.modules[module.path == "conv" ? 1 : 0];
    CHECK(module.pair.scale == 1);
    CHECK(relative_difference(delta_of(module.pair), delta_of(before.pair)) < 0x1p-22); // the scale is in B
  }
}

TEST_CASE("A kind that needs the model is refused without one") {
  const KindCase* dora = nullptr;
  const std::vector<KindCase> cases = read_kind_cases();
  for (const KindCase& one : cases)
    if (one.kind == "dora" && one.tool == "peft" && dora == nullptr) dora = &one;
  REQUIRE(dora != nullptr);
  const AdapterFile file = AdapterFile::open(dora->adapter);
  try {
    (void)targets_of(file, "");
    FAIL("was not refused");
  } catch (const error& problem) {
    CHECK(problem.code() == ErrorCode::unsupported);
    CHECK(std::string(problem.what())
              .ends_with(": expected LoRA or a stored difference, since no model was given, got "
                         "DoRA; name the model's checkpoint"));
  }
}

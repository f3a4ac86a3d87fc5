// SPDX-License-Identifier: Apache-2.0
#include "support/files.hpp"
#include "support/kind_goldens.hpp"
#include "support/temporary_folder.hpp"

#include <tenon/adapters/bind.hpp>
#include <tenon/adapters/merged_checkpoint.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <map>

using namespace tenon;
using namespace tenon::test;

namespace {

struct Bound {
  AdapterTargets targets;
  std::shared_ptr<const AdapterData> data;
};

Bound bind_to(const Checkpoint& base, const std::string& path, const std::string& adapter_name,
              Ledger& ledger) {
  AdapterFile file = AdapterFile::open(path, {.adapter_name = adapter_name, .ledger = &ledger});
  Bound out{targets_of(base), nullptr};
  out.data = bind_adapter(file, out.targets, {}, ledger);
  return out;
}

/// Two linears in two shards, one of them with a bias, and a norm.
struct Base {
  TemporaryFolder folder{};
  Ledger ledger{};
  explicit Base(DType dtype = DType::f32) {
    RandomTensors first(1, dtype);
    first.add("fc1.weight", {40, 24});
    first.add("fc1.bias", {40});
    RandomTensors second(2, dtype);
    second.add("fc2.weight", {10, 40});
    second.add("norm.weight", {10});
    std::filesystem::create_directories(folder.file("base"));
    first.write(folder.file("base/model-00001-of-00002.safetensors"));
    second.write(folder.file("base/model-00002-of-00002.safetensors"));
    write_file(
        folder.file("base/model.safetensors.index.json"),
        R"({"weight_map": {"fc1.weight": "model-00001-of-00002.safetensors",)"
        R"("fc1.bias": "model-00001-of-00002.safetensors", "fc2.weight": "model-00002-of-00002.safetensors",)"
        R"("norm.weight": "model-00002-of-00002.safetensors"}})");
    RandomTensors adapter(3, DType::f32);
    adapter.add("diffusion_model.fc2.lora_A.weight", {4, 40});
    adapter.add("diffusion_model.fc2.lora_B.weight", {10, 4});
    adapter.add("diffusion_model.fc1.diff_b", {40});
    adapter.write(folder.file("adapter.safetensors"));
  }
  Checkpoint open() { return Checkpoint::open(folder.file("base"), ledger, Category::base_mapped); }
};

} // namespace

TEST_CASE("Every kind of adapter, merged into a checkpoint, gives the weights that its own tool merges") {
  const TemporaryFolder folder;
  Ledger ledger;
  std::map<std::string, SafetensorsFile> weights;
  for (const char* tool : {"peft", "lycoris", "kohya"})
    weights.emplace(tool, SafetensorsFile(kind_goldens(concat(tool, "_weights.safetensors")), ledger,
                                          Category::base_mapped));
  int compared = 0;
  for (const KindCase& one : read_kind_cases()) {
    CAPTURE(one.name);
    const SafetensorsFile& golden = weights.at(one.tool);
    const std::string prefix = one.name + "/";
    const bool has_golden = std::any_of(golden.entries().begin(), golden.entries().end(),
                                        [&](const TensorEntry& e) { return e.name.starts_with(prefix); });
    if (!has_golden || one.name.starts_with("glora-rslora@")) continue; // its file does not say its scale
    const Checkpoint base = Checkpoint::open(one.base, ledger, Category::base_mapped);
    const Bound bound = bind_to(base, one.adapter, one.adapter_name, ledger);
    if (!bound.data->report.findings.empty()) continue; // that it binds is bind_test's to say
    const AdapterAt adapters[] = {{bound.data.get(), one.strength}};
    const std::string to = folder.file("merged.safetensors");
    (void)write_merged_checkpoint(base, bound.targets, adapters, to,
                                  {.buffer_bytes = 256, .ledger = &ledger});
    const Checkpoint merged = Checkpoint::open(to, ledger, Category::base_mapped);
    for (const CheckpointTensor& tensor : merged.tensors()) {
      CAPTURE(tensor.name);
      const auto expected = golden.find(concat(prefix, tensor.name));
      const double difference = largest_difference(
          values_of(tensor.view), values_of(expected ? *expected : base.at(tensor.name).view));
      CHECK(difference <= (expected ? one.tolerance : 0));
    }
    ++compared;
  }
  MESSAGE(compared, " cases compared");
  CHECK(compared >= 150);
}

TEST_CASE("Shards keep their names and what is not changed its bytes") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Base base(dtype);
    const Checkpoint from = base.open();
    const Bound bound = bind_to(from, base.folder.file("adapter.safetensors"), "", base.ledger);
    REQUIRE(bound.data->report.fits());
    const AdapterAt adapters[] = {{bound.data.get(), 0.5}};
    const CheckpointCopied copied = write_merged_checkpoint(
        from, bound.targets, adapters, base.folder.file("out"), {.ledger = &base.ledger});
    CHECK(copied.changed == 2);
    CHECK(copied.files.size() == 3);
    const std::string index = "/model.safetensors.index.json";
    CHECK(read_file(base.folder.file("out") + index) == read_file(base.folder.file("base") + index));
    const Checkpoint to = Checkpoint::open(base.folder.file("out"), base.ledger, Category::base_mapped);
    const auto same = [&](const char* name) {
      return values_of(to.at(name).view) == values_of(from.at(name).view);
    };
    CHECK(same("fc1.weight"));
    CHECK(same("norm.weight"));
    CHECK(!same("fc2.weight"));
    const SafetensorsFile adapter(base.folder.file("adapter.safetensors"), base.ledger, Category::adapter);
    const std::vector<float> change = values_of(adapter.at("diffusion_model.fc1.diff_b"));
    std::vector<float> expected = values_of(from.at("fc1.bias").view);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      expected[i] += 0.5F * change[i];
      if (dtype == DType::bf16) expected[i] = f32_from_bf16(bf16_from_f32(expected[i])); // rounded once
    }
    CHECK(values_of(to.at("fc1.bias").view) == expected);
  }
}

TEST_CASE("A merge gives the same bytes whatever the buffer, and holds no more than it") {
  Base base;
  const Checkpoint from = base.open();
  const Bound bound = bind_to(from, base.folder.file("adapter.safetensors"), "", base.ledger);
  const AdapterAt adapters[] = {{bound.data.get(), 1}};
  const std::int64_t scratch = kernels::merge_deltas_scratch_bytes(10, 40);
  std::string expected;
  for (const std::int64_t bytes : {std::int64_t{1}, std::int64_t{700}, std::int64_t{1} << 20}) {
    const PeakScope peak(base.ledger);
    (void)write_merged_checkpoint(from, bound.targets, adapters, base.folder.file("out"),
                                  {.buffer_bytes = bytes, .ledger = &base.ledger});
    CHECK(peak.peak()[Category::scratch] <=
          std::max(scratch, kernels::merge_scratch_bytes) + std::max(bytes, std::int64_t{40 * 4}) + 1600);
    const std::string got = read_file(base.folder.file("out/model-00002-of-00002.safetensors"));
    if (!expected.empty()) CHECK(got == expected);
    expected = got;
  }
}

TEST_CASE("A change that the checkpoint has no place for is refused before anything is written") {
  Base base;
  RandomTensors adapter(3, DType::f32);
  adapter.add("diffusion_model.fc2.diff_b", {10}); // fc2 has no bias
  adapter.write(base.folder.file("bias.safetensors"));
  const Checkpoint from = base.open();
  const Bound bound = bind_to(from, base.folder.file("bias.safetensors"), "", base.ledger);
  const AdapterAt adapters[] = {{bound.data.get(), 1}};
  CHECK_THROWS_WITH_AS((void)write_merged_checkpoint(from, bound.targets, adapters, base.folder.file("out")),
                       "fc2: expected a bias in the checkpoint for the adapter's change of it, got none",
                       error);
  CHECK(!std::filesystem::exists(base.folder.file("out")));
}

// SPDX-License-Identifier: Apache-2.0
// What PEFT's GLoRA leaves unsaid or says twice; what it computes is kinds_golden_test's to compare.
#include "support/file_bytes.hpp"
#include "support/files.hpp"
#include "support/temporary_folder.hpp"

#include <tenon/adapters/bind.hpp>
#include <tenon/adapters/file_targets.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <functional>

using namespace tenon;
using namespace tenon::test;

namespace {

/// A linear with a bias, one without, and a file of GLoRA for them.
struct Case {
  TemporaryFolder folder{};
  Ledger ledger{};
  FloatTensors adapter{};
  Checkpoint base;
  AdapterTargets targets;

  Case()
      : base(
            (write_base(), Checkpoint::open(folder.file("base.safetensors"), ledger, Category::base_mapped))),
        targets(targets_of(base)) {}

  void write_base() const {
    RandomTensors tensors(1, DType::f32);
    tensors.add("fc.weight", {6, 4});
    tensors.add("fc.bias", {6});
    tensors.add("bare.weight", {6, 4});
    tensors.add("double_blocks.0.img_attn.qkv.weight", {12, 4});
    tensors.add("final_layer.adaLN_modulation.1.weight", {8, 4});
    tensors.write(folder.file("base.safetensors"));
  }
  void add(const std::string& name, std::vector<std::int64_t> shape, float value = 0.5f) {
    std::int64_t size = 1;
    for (const std::int64_t extent : shape) size *= extent;
    adapter.add("base_model.model." + name, std::move(shape),
                std::vector<float>(static_cast<std::size_t>(size), value));
  }
  [[nodiscard]] AdapterFile open() {
    std::filesystem::create_directories(folder.file("a"));
    (void)adapter.write(folder.file("a/adapter_model.safetensors"));
    write_file(folder.file("a/adapter_config.json"), R"({"peft_type": "GLORA", "r": 2})");
    return AdapterFile::open(folder.file("a"), {.ledger = &ledger});
  }
  [[nodiscard]] std::shared_ptr<const AdapterData> bind() {
    AdapterFile file = open();
    return bind_adapter(file, targets, {}, ledger);
  }
  /// The one finding's text.
  [[nodiscard]] std::string finding() {
    const auto data = bind();
    REQUIRE(data->report.findings.size() == 1);
    return data->report.findings[0].what;
  }
};

} // namespace

TEST_CASE("Of GLoRA a product is prepared for nothing but C, and what is zeros is left out") {
  Case one;
  one.add("fc.glora_A.Xd", {6, 2});
  one.add("fc.glora_A.Xu", {2, 4});
  one.add("fc.glora_B.zeros", {6, 4}, 0);
  one.add("fc.glora_C.Xd", {4, 2});
  one.add("fc.glora_C.Xu", {2, 1});
  one.add("fc.glora_D.X", {6});
  one.add("fc.glora_E.zeros", {6}, 0);
  one.add("bare.glora_A.zeros", {6, 4}, 0);
  one.add("bare.glora_B.X", {6, 1});
  one.add("bare.glora_C.zeros", {4, 1}, 0);
  one.add("bare.glora_D.zeros", {6}, 0);
  one.add("bare.glora_E.zeros", {6}, 0);
  const auto data = one.bind();
  CHECK_MESSAGE(data->report.fits(), data->report.text());
  CHECK(data->deltas.size() == 1);
  CHECK(data->factors.size() == 1);
  REQUIRE(data->biases.size() == 2);
  CHECK(data->biases[1].made_count() == 6);
  REQUIRE(data->prepared.size() == 2); // the ones beside B [out, 1], and C
  for (const Buffer& each : data->prepared) CHECK(each.bytes() == 4 * 4);
  REQUIRE(data->report.matched.size() == 2);
  for (const auto& matched : data->report.matched) {
    CHECK(matched.kind == "GLoRA");
    CHECK(matched.rank == (matched.slot == "fc" ? 2 : 0));
    CHECK(matched.scale == 1);
  }
}

TEST_CASE("GLoRA without some of its parts is GLoRA with zeros there, as PEFT reads it") {
  Case one;
  one.add("fc.glora_E.X", {1});
  const auto data = one.bind();
  CHECK(data->report.fits());
  CHECK((data->deltas.empty() && data->factors.empty()));
  REQUIRE(data->biases.size() == 1);
  CHECK(data->biases[0].values.size == 6);
}

TEST_CASE("GLoRA that does not fit is refused, part by part") {
  const auto refusal = [](const std::function<void(Case&)>& fill) {
    Case one;
    fill(one);
    return one.finding();
  };
  CHECK(refusal([](Case& c) { c.add("fc.glora_A.Xd", {6, 2}); }) == "its partner GLoRA A Xu is missing");
  CHECK(refusal([](Case& c) {
          c.add("fc.glora_B.Xd", {6, 2});
          c.add("fc.glora_B.Xu", {2, 4});
          c.add("fc.glora_B.X", {6, 1});
        }) == "its module already has base_model.model.fc.glora_B.Xd");
  CHECK(refusal([](Case& c) {
          c.add("fc.glora_A.Xd", {6, 2});
          c.add("fc.glora_A.Xu", {3, 4});
        }) == "expected [6, 3] [out, rank], got [6, 2]");
  CHECK(refusal([](Case& c) { c.add("fc.glora_A.X", {5, 1}); }) == "expected 6 rows [out, rank], got [5, 1]");
  CHECK(refusal([](Case& c) { c.add("fc.glora_C.X", {3, 1}); }) ==
        "expected 4 elements, one number, or zeros for 4 [in, 1], got [3, 1]");
  CHECK(refusal([](Case& c) { c.add("fc.glora_C.X", {1}); }) == "expected 4 elements [in, 1], got 1");
  CHECK(refusal([](Case& c) { c.add("fc.glora_A.zeros", {6, 4}); }) ==
        "expected zeros, which PEFT stores where a setting is none, got other values");
  CHECK(refusal([](Case& c) { c.add("bare.glora_C.X", {4, 1}); }) ==
        "the module has no bias that it could change");
}

TEST_CASE("GLoRA of one of several projections goes to its rows of the fused weight, if its tensors tell how "
          "many") {
  Case one;
  one.add("transformer_blocks.0.attn.to_k.glora_A.X", {4, 1});
  one.add("transformer_blocks.0.attn.to_k.glora_B.X", {1});
  const auto data = one.bind();
  CHECK_MESSAGE(data->report.fits(), data->report.text());
  REQUIRE(data->deltas.size() == 1);
  CHECK((data->deltas[0].term.first_row == 4 && data->deltas[0].term.rows == 4));
  CHECK(data->deltas[0].gain_count(12, 4) == 4);
  REQUIRE(data->factors.size() == 1);
  CHECK((data->factors[0].first_row == 4 && data->factors[0].b.rows == 4));

  Case numbers;
  numbers.add("transformer_blocks.0.attn.to_k.glora_A.X", {1});
  CHECK(numbers.finding() == "GLoRA of numbers alone cannot be moved between one fused projection and "
                             "several; convert it to LoRA first");
  Case halves; // which the two layouts have in another order
  halves.add("norm_out.linear.glora_A.X", {8, 1});
  CHECK(halves.finding() ==
        "GLoRA cannot be moved between one fused projection and several; convert it to LoRA first");
}

TEST_CASE("Without its model GLoRA is refused: its change follows from the weight") {
  Case one;
  one.add("fc.glora_A.X", {6, 1});
  const AdapterFile file = one.open();
  CHECK_THROWS_WITH_AS(
      (void)targets_of(file, ""),
      "base_model.model.fc.glora_A.X: expected LoRA or a stored difference, since no model was "
      "given, got GLoRA; name the model's checkpoint",
      error);
}

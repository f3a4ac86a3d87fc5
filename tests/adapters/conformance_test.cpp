// SPDX-License-Identifier: Apache-2.0
// Behaviours of reading that the tests of PEFT, diffusers, LyCORIS and SD.Next pin down, for the cases that no other test
// of ours has: docs/conformance.md says where each is.
#include "support/kind_files.hpp"
#include "support/temporary_folder.hpp"

#include <tenon/formats/dialects.hpp>
#include <tenon/tenon.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>

using namespace tenon;
using namespace tenon::test;

namespace {

using Pair = Sequential<Linear<"fc1", 4, 6>, Linear<"fc2", 6, 4>>;
using Split =
    Sequential<Linear<"transformer_blocks.0.attn.to_q", 4, 4>, Linear<"transformer_blocks.0.attn.to_k", 4, 4>,
               Linear<"transformer_blocks.0.attn.to_v", 4, 4>>;
using Fused = Linear<"double_blocks.0.img_attn.qkv", 4, 12>;

/// Tensors with values that a test can take apart.
struct Values {
  std::vector<std::int64_t> shape;
  std::vector<float> values;

  static Values ramp(std::vector<std::int64_t> shape, int start) {
    std::int64_t size = 1;
    for (const std::int64_t extent : shape) size *= extent;
    Values out{std::move(shape), {}};
    for (std::int64_t i = 0; i < size; ++i)
      out.values.push_back(static_cast<float>((i * 7 + start) % 19) / 16.0f - 0.4f);
    return out;
  }
  [[nodiscard]] Values rows(std::size_t first, std::size_t count) const {
    const std::size_t width = values.size() / static_cast<std::size_t>(shape[0]);
    Values out{shape, {}};
    out.shape[0] = static_cast<std::int64_t>(count);
    const auto from = values.begin() + static_cast<std::ptrdiff_t>(first * width);
    out.values.assign(from, from + static_cast<std::ptrdiff_t>(count * width));
    return out;
  }
};
using File = std::map<std::string, Values>;

std::string write(const TemporaryFolder& folder, const File& file,
                  const std::string& name = "adapter.safetensors") {
  std::vector<NamedTensor> tensors;
  for (const auto& [key, value] : file)
    tensors.push_back({key, TensorView(value.values.data(), DType::f32, value.shape)});
  write_safetensors(folder.file(name), tensors);
  return folder.file(name);
}

std::string findings(const AdapterReport& report) {
  std::string out;
  for (const Finding& finding : report.findings)
    out += concat(out.empty() ? "" : "\n", finding_name(finding.kind), ": ", finding.key, ": ", finding.what);
  return out;
}
template <class Net>
std::string findings_of(const std::string& path) {
  Ledger ledger;
  CHECK_THROWS_AS((void)load_adapter<Net>(path, {.ledger = &ledger}), load_error);
  CHECK(ledger.current() == BytesByCategory{});
  return findings(load_adapter<Net>(path, {.on_mismatch = OnMismatch::report}).report());
}

/// A net's slots with an adapter merged into them, and what a forward pass then gives.
template <class Net>
struct Merged {
  std::vector<std::vector<std::byte>> weights{};
  Tensor output;

  Merged(const TemporaryFolder& folder, const Adapter<Net>& adapter, double strength = 1) {
    write_checkpoint<Net>(folder.file("model.safetensors"));
    const auto model = open<Net>(folder.file("model.safetensors"));
    Session session(model);
    Tensor x({3, 4});
    for (std::size_t i = 0; i < x.values().size(); ++i)
      x.values()[i] = static_cast<float>(i % 5) / 4.0f - 0.5f;
    const Guard guard = session.template attach<merged>(adapter, strength);
    for (std::int32_t slot = 0; slot < program_of<Net>().slot_count; ++slot) {
      const TensorView& view = session.slot_weight(slot);
      weights.emplace_back(view.data, view.data + view.bytes());
    }
    output = session(x);
  }
  friend bool operator==(const Merged& a, const Merged& b) {
    return a.weights == b.weights && a.output == b.output;
  }
};

double scale_of(const std::string& path, std::string_view slot) {
  const auto adapter = load_adapter<Pair>(path);
  for (const MatchedSlot& matched : adapter.report().matched)
    if (matched.slot == slot) return matched.scale;
  return std::numeric_limits<double>::quiet_NaN();
}

} // namespace

TEST_CASE("test_lora_dora_fused_qkv_sliced: rows of a fused DoRA go to the split projections with their "
          "magnitudes") {
  const TemporaryFolder folder;
  const Values a = Values::ramp({2, 4}, 1);
  const Values b = Values::ramp({12, 2}, 2);
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{12}, {12, 1}}) {
    const Values m = Values::ramp(shape, 3);
    const std::string fused = write(folder, {{"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", a},
                                             {"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight", b},
                                             {"lora_unet_double_blocks_0_img_attn_qkv.dora_scale", m}});
    File parts;
    const std::array<std::string, 3> names{"to_q", "to_k", "to_v"};
    for (std::size_t i = 0; i < 3; ++i) {
      const std::string module = "lora_unet_transformer_blocks_0_attn_" + names[i];
      parts.insert({{module + ".lora_down.weight", a},
                    {module + ".lora_up.weight", b.rows(4 * i, 4)},
                    {module + ".dora_scale", m.rows(4 * i, 4)}});
    }
    const auto sliced = load_adapter<Split>(fused);
    CHECK(sliced.report().matched.size() == 3);
    CHECK(sliced.report().matched[0].kind == "DoRA");
    const auto apart = load_adapter<Split>(write(folder, parts, "parts.safetensors"));
    CHECK(Merged<Split>(folder, sliced) == Merged<Split>(folder, apart));
    CHECK(Merged<Split>(folder, sliced, -0.5) == Merged<Split>(folder, apart, -0.5));
  }
}

TEST_CASE("test_dora_per_input_fused_skipped: one magnitude for each input is not taken apart and said so") {
  const TemporaryFolder folder;
  const std::string path =
      write(folder, {{"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", Values::ramp({2, 4}, 1)},
                     {"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight", Values::ramp({12, 2}, 2)},
                     {"lora_unet_double_blocks_0_img_attn_qkv.dora_scale", Values::ramp({1, 4}, 3)}});
  const std::string all = findings_of<Split>(path);
  CHECK(all.find("refused kind: lora_unet_double_blocks_0_img_attn_qkv.") == 0);
  CHECK(all.find("DoRA cannot be moved between one fused projection and several; convert it to LoRA first") !=
        std::string::npos);
  CHECK(load_adapter<Split>(path, {.on_mismatch = OnMismatch::report}).data()->deltas.empty());
  CHECK_NOTHROW((void)load_adapter<Fused>(path)); // where it belongs it fits
}

TEST_CASE("A DoRA of split projections is not put into a fused one and said so") {
  const TemporaryFolder folder;
  File parts;
  for (const std::string name : {"to_q", "to_k", "to_v"}) {
    const std::string module = "lora_unet_transformer_blocks_0_attn_" + name;
    parts.insert({{module + ".lora_down.weight", Values::ramp({2, 4}, 1)},
                  {module + ".lora_up.weight", Values::ramp({4, 2}, 2)},
                  {module + ".dora_scale", Values::ramp({4, 1}, 3)}});
  }
  CHECK(findings_of<Fused>(write(folder, parts)).find("DoRA cannot be moved") != std::string::npos);
}

TEST_CASE("test_lora_diff_b_fused_qkv_sliced: rows of a fused bias difference go to the split projections") {
  const TemporaryFolder folder;
  const Values a = Values::ramp({2, 4}, 1);
  const Values b = Values::ramp({12, 2}, 2);
  const Values bias = Values::ramp({12}, 3);
  const std::string fused =
      write(folder, {{"diffusion_model.double_blocks.0.img_attn.qkv.lora_down.weight", a},
                     {"diffusion_model.double_blocks.0.img_attn.qkv.lora_up.weight", b},
                     {"diffusion_model.double_blocks.0.img_attn.qkv.diff_b", bias}});
  const auto split = load_adapter<Split>(fused);
  REQUIRE(split.data()->biases.size() == 3);
  File parts;
  const std::array<std::string, 3> names{"to_q", "to_k", "to_v"};
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string module = "diffusion_model.transformer_blocks.0.attn." + names[i];
    parts.insert({{module + ".lora_down.weight", a},
                  {module + ".lora_up.weight", b.rows(4 * i, 4)},
                  {module + ".diff_b", bias.rows(4 * i, 4)}});
  }
  const auto apart = load_adapter<Split>(write(folder, parts, "parts.safetensors"));
  CHECK(Merged<Split>(folder, split) == Merged<Split>(folder, apart));
  // and back: three differences for one fused bias
  const auto joined = load_adapter<Fused>(folder.file("parts.safetensors"));
  CHECK(joined.data()->biases.size() == 3);
  const double error = [&] {
    const Merged<Fused> whole(folder, load_adapter<Fused>(fused));
    const Merged<Fused> put_together(folder, joined);
    double largest = 0;
    for (std::size_t i = 0; i < whole.output.values().size(); ++i)
      largest = std::max(largest, std::abs(static_cast<double>(whole.output.values()[i]) -
                                           static_cast<double>(put_together.output.values()[i])));
    return largest;
  }();
  CHECK(error < 1e-6); // the same sums of numbers below 4
}

TEST_CASE("test_lora_aitk_magnitude_dora: a magnitude of that name is PEFT's DoRA") {
  const TemporaryFolder folder;
  const Values a = Values::ramp({2, 4}, 1);
  const Values b = Values::ramp({6, 2}, 2);
  const Values m = Values::ramp({6}, 3);
  const auto toolkit = load_adapter<Pair>(write(folder, {{"transformer.fc1.lora_A.weight", a},
                                                         {"transformer.fc1.lora_B.weight", b},
                                                         {"transformer.fc1.magnitude", m}}));
  REQUIRE(toolkit.report().matched.size() == 1);
  CHECK(toolkit.report().matched[0].kind == "DoRA");
  CHECK(toolkit.report().matched[0].scale == 1);
  write(folder,
        {{"base_model.model.fc1.lora_A.weight", a},
         {"base_model.model.fc1.lora_B.weight", b},
         {"base_model.model.fc1.lora_magnitude_vector", m}},
        "adapter_model.safetensors");
  write_file(folder.file("adapter_config.json"),
             R"({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "use_dora": true})");
  const auto peft = load_adapter<Pair>(folder.path());
  for (const double strength : {1.0, 0.5})
    CHECK(Merged<Pair>(folder, toolkit, strength) == Merged<Pair>(folder, peft, strength));
}

TEST_CASE(
    "test_lora_sparse_bias_residual: a sparse residual is refused by name and its module not half loaded") {
  const TemporaryFolder folder;
  const std::string path = write(folder, {{"lora_unet_fc1.lora_down.weight", Values::ramp({2, 4}, 1)},
                                          {"lora_unet_fc1.lora_up.weight", Values::ramp({6, 2}, 2)},
                                          {"lora_unet_fc1.bias_indices", Values::ramp({2, 5}, 3)},
                                          {"lora_unet_fc1.bias_values", Values::ramp({5}, 4)},
                                          {"lora_unet_fc1.bias_size", Values::ramp({2}, 5)}});
  CHECK(findings_of<Pair>(path) ==
        "refused kind: lora_unet_fc1.bias_indices: sparse indices is not supported\n"
        "refused kind: lora_unet_fc1.bias_values: sparse values is not supported\n"
        "refused kind: lora_unet_fc1.bias_size: sparse size is not supported");
  CHECK(load_adapter<Pair>(path, {.on_mismatch = OnMismatch::report}).report().matched.empty());
}

TEST_CASE("test_lokr_shape_mismatch_rejected: LoKr's factors that do not make the weight are refused with "
          "their shapes") {
  const TemporaryFolder folder;
  CHECK(findings_of<Pair>(write(folder, {{"lycoris_fc1.lokr_w1", Values::ramp({4, 2}, 1)},
                                         {"lycoris_fc1.lokr_w2", Values::ramp({3, 2}, 2)}})) ==
        "wrong shape: lycoris_fc1.lokr_w1: expected a first factor whose sides divide 6 and 4, got 4 x 2");
  CHECK(
      findings_of<Pair>(write(folder, {{"lycoris_fc1.lokr_w1", Values::ramp({2, 2}, 1)},
                                       {"lycoris_fc1.lokr_w2", Values::ramp({3, 4}, 2)}})) ==
      "wrong shape: lycoris_fc1.lokr_w2: expected [3, 2] [out / rows of w1, in / columns of w1], got [3, 4]");
  CHECK(findings_of<Pair>(write(folder, {{"lycoris_fc1.lokr_w1", Values::ramp({2, 2}, 1)},
                                         {"lycoris_fc1.lokr_w2_a", Values::ramp({3, 2}, 2)},
                                         {"lycoris_fc1.lokr_w2_b", Values::ramp({3, 2}, 2)}})) ==
        "wrong shape: lycoris_fc1.lokr_w2_a: expected [3, 3] [out, rank], got [3, 2]");
}

TEST_CASE(
    "test_parse_key_all_prefixes: the prefix of each dialect names a module of the net and its component") {
  for (const Dialect& dialect : dialect_table)
    for (const KeyPrefix& prefix : dialect.prefixes) {
      CAPTURE(std::string(prefix.text));
      const TemporaryFolder folder;
      const std::string module(prefix.text);
      const std::string name = dialect.name == "PEFT" ? "adapter_model.safetensors" : "adapter.safetensors";
      write_file(folder.file("adapter_config.json"), R"({"peft_type": "LORA", "r": 2, "lora_alpha": 2})");
      const std::string path = write(folder,
                                     {{module + "fc1.lora_A.weight", Values::ramp({2, 4}, 1)},
                                      {module + "fc1.lora_B.weight", Values::ramp({6, 2}, 2)},
                                      {module + "fc2.lora_A.weight", Values::ramp({2, 6}, 3)},
                                      {module + "fc2.lora_B.weight", Values::ramp({4, 2}, 4)}},
                                     name);
      const auto adapter = load_adapter<Pair>(path, {.dialect = dialect.name, .component = prefix.component});
      CHECK(adapter.report().matched.size() == 2);
      if (!prefix.component.empty())
        CHECK_THROWS_AS((void)load_adapter<Pair>(path, {.dialect = dialect.name, .component = "another"}),
                        load_error);
    }
}

TEST_CASE(
    "test_parse_key_peft_wrapper_unwrap: a bias that was saved under the wrapped layer is the module's") {
  const TemporaryFolder folder;
  write_file(folder.file("adapter_config.json"),
             R"({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "bias": "all"})");
  const Values bias = Values::ramp({6}, 3);
  write(folder,
        {{"base_model.model.fc1.lora_A.weight", Values::ramp({2, 4}, 1)},
         {"base_model.model.fc1.lora_B.weight", Values::ramp({6, 2}, 2)},
         {"base_model.model.fc1.base_layer.bias", bias}},
        "adapter_model.safetensors");
  const auto adapter = load_adapter<Pair>(folder.path());
  REQUIRE(adapter.data()->biases.size() == 1);
  CHECK(adapter.data()->biases[0].action == kernels::BiasAction::replace);
  CHECK(std::memcmp(adapter.data()->biases[0].values.data, bias.values.data(), 24) == 0);
}

TEST_CASE(
    "TestPeftStateDict: modules named like parts, prefixes and adapters are found by their whole names") {
  using Traps = Sequential<Linear<"weight", 4, 4>, Linear<"bias", 4, 4>, Linear<"default", 4, 4>,
                           Linear<"base_model.model", 4, 4>, Linear<"lora_A.proj", 4, 4>,
                           Linear<"modules_to_save", 4, 4>, Linear<"my.base_layer.fc", 4, 4>>;
  const Program& program = program_of<Traps>();
  for (const std::string infix : {"", ".default", ".weight", ".fc"}) {
    CAPTURE(infix);
    const TemporaryFolder folder;
    write_file(folder.file("adapter_config.json"), R"({"peft_type": "LORA", "r": 2, "lora_alpha": 2})");
    File file;
    for (std::int64_t i = 0; i < program.slot_count; ++i) {
      const std::string module = "base_model.model." + slot_path(program, i);
      file.insert({{module + ".lora_A" + infix + ".weight", Values::ramp({2, 4}, static_cast<int>(i))},
                   {module + ".lora_B" + infix + ".weight", Values::ramp({4, 2}, static_cast<int>(i) + 7)}});
    }
    write(folder, file, "adapter_model.safetensors");
    const auto adapter = load_adapter<Traps>(folder.path());
    REQUIRE(std::ssize(adapter.data()->factors) == program.slot_count);
    for (std::int64_t i = 0; i < program.slot_count; ++i) { // each slot has its own module's tensors
      const SlotFactors& factors = adapter.data()->factors[static_cast<std::size_t>(i)];
      CHECK(factors.slot == i);
      CHECK(std::memcmp(factors.a.data, Values::ramp({2, 4}, static_cast<int>(i)).values.data(), 32) == 0);
    }
  }
}

TEST_CASE("A module that was saved whole belongs to the adapter that its key names") {
  const TemporaryFolder folder;
  write_file(folder.file("adapter_config.json"), R"({"peft_type": "LORA", "r": 2, "lora_alpha": 2})");
  File file;
  for (const std::string name : {"calm", "loud"}) {
    const int start = name == "calm" ? 1 : 5;
    file.insert({{"base_model.model.fc1.lora_A." + name + ".weight", Values::ramp({2, 4}, start)},
                 {"base_model.model.fc1.lora_B." + name + ".weight", Values::ramp({6, 2}, start)},
                 {"base_model.model.fc2.modules_to_save." + name + ".weight", Values::ramp({4, 6}, start)}});
  }
  write(folder, file, "adapter_model.safetensors");
  for (const std::string name : {"calm", "loud"}) {
    const auto adapter = load_adapter<Pair>(folder.path(), {.adapter_name = name});
    REQUIRE(adapter.data()->deltas.size() == 1);
    const Values expected = Values::ramp({4, 6}, name == "calm" ? 1 : 5);
    CHECK(std::memcmp(adapter.data()->deltas[0].term.first.left.data, expected.values.data(), 96) == 0);
  }
}

TEST_CASE("test_correct_lora_configs_with_different_ranks: modules of different ranks without an alpha have "
          "scale one") {
  const TemporaryFolder folder;
  const File pair{{"transformer.fc1.lora_A.weight", Values::ramp({2, 4}, 1)},
                  {"transformer.fc1.lora_B.weight", Values::ramp({6, 2}, 2)},
                  {"transformer.fc2.lora_A.weight", Values::ramp({3, 6}, 3)},
                  {"transformer.fc2.lora_B.weight", Values::ramp({4, 3}, 4)}};
  const std::string path = write(folder, pair);
  CHECK(scale_of(path, "fc1") == 1);
  CHECK(scale_of(path, "fc2") == 1);
  File with_alpha = pair;
  with_alpha["transformer.fc1.alpha"] = {{1}, {3.0f}};
  with_alpha["transformer.fc2.alpha"] = {{}, {1.5f}};
  CHECK(scale_of(write(folder, with_alpha), "fc1") == 1.5); // each module's own
  CHECK(scale_of(write(folder, with_alpha), "fc2") == 0.5);
  with_alpha["transformer.fc1.scale"] = {{1}, {0.25f}}; // before alpha over rank
  CHECK(scale_of(write(folder, with_alpha), "fc1") == 0.25);
}

TEST_CASE("A rank of one is a rank of one: alpha is not divided by a width") {
  const TemporaryFolder folder;
  CHECK(scale_of(write(folder, {{"lora_unet_fc1.lora_down.weight", Values::ramp({1, 4}, 1)},
                                {"lora_unet_fc1.lora_up.weight", Values::ramp({6, 1}, 2)},
                                {"lora_unet_fc1.alpha", {{}, {0.5f}}}}),
                 "fc1") == 0.5);
  CHECK(scale_of(write(folder, {{"lycoris_fc1.lokr_w1", Values::ramp({2, 2}, 1)},
                                {"lycoris_fc1.lokr_w2_a", Values::ramp({3, 1}, 2)},
                                {"lycoris_fc1.lokr_w2_b", Values::ramp({1, 2}, 2)},
                                {"lycoris_fc1.alpha", {{}, {0.5f}}}}),
                 "fc1") == 0.5);
}

TEST_CASE("test_merge_layers_nan: NaN or infinity in any tensor of any kind is refused by its key") {
  for (const std::string_view kind : kind_names) {
    const TemporaryFolder folder;
    const std::string path = write_kind<Pair>(folder.file("adapter"), kind);
    const std::string file = path + "/adapter_model.safetensors";
    const std::string sound = read_file(file);
    Ledger ledger;
    std::vector<std::pair<std::string, std::size_t>> places; // of each tensor's last value
    {
      const SafetensorsFile read(file, ledger, Category::adapter);
      for (const TensorEntry& entry : read.entries()) {
        const TensorView view = read.view(entry);
        places.emplace_back(entry.name, static_cast<std::size_t>(view.data - read.contents().data()) +
                                            static_cast<std::size_t>(view.bytes()) - 4);
      }
    }
    for (const auto& [key, at] : places)
      for (const float bad :
           {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
        CAPTURE(key);
        std::string bytes = sound;
        std::memcpy(bytes.data() + at, &bad, sizeof bad);
        write_file(file, bytes);
        const std::string all = findings_of<Pair>(path);
        CHECK(all.starts_with("not finite: " + key + ": its value number "));
        CHECK(all.find('\n') == std::string::npos);
      }
  }
}

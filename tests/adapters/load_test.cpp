// SPDX-License-Identifier: Apache-2.0
#include "support/file_bytes.hpp"
#include "support/files.hpp"
#include "support/temporary_folder.hpp"

#include <tenon/tenon.hpp>

#include <doctest/doctest.h>

#include <cmath>

using namespace tenon;
using namespace tenon::test;

namespace {

using Tiny =
    Sequential<Linear<"fc1", 12, 8>, Linear<"fc2", 8, 6>>; // the net of tests/goldens/make_peft_scales.py

const std::string goldens = TENON_TEST_DATA "/goldens/peft/";

/// A PEFT folder put together by hand.
struct Folder {
  TemporaryFolder folder{};
  RandomTensors tensors{1, DType::f32};

  std::string write(std::string_view config = R"("r": 2, "lora_alpha": 4)") {
    tensors.write(folder.file("adapter_model.safetensors"));
    write_file(folder.file("adapter_config.json"), concat(R"({"peft_type": "LORA", )", config, "}"));
    return folder.path();
  }
  void add_pair(const std::string& module, std::int64_t in, std::int64_t out, std::int64_t rank = 2) {
    tensors.add("base_model.model." + module + ".lora_A.weight", {rank, in});
    tensors.add("base_model.model." + module + ".lora_B.weight", {out, rank});
  }
};

std::string refusal(Folder& folder, std::string_view config = R"("r": 2, "lora_alpha": 4)") {
  Ledger ledger;
  const std::string path = folder.write(config);
  try {
    (void)load_adapter<Tiny>(path, {.ledger = &ledger});
  } catch (const load_error& problem) {
    CHECK(problem.code() == ErrorCode::bad_adapter);
    CHECK(ledger.current() == BytesByCategory{});
    const std::string message = problem.what();
    return message.substr(message.find(':') + 2); // without the folder's name
  }
  return "nothing was thrown";
}

} // namespace

TEST_CASE("Adapters that PEFT saved give PEFT's outputs") {
  const SafetensorsFile golden(goldens + "tiny_goldens.safetensors", process_ledger(), Category::base_owned);
  const auto model = open<Tiny>(goldens + "tiny.safetensors");
  Session session(model);
  const TensorView x64 = golden.at("x");
  Tensor x({5, 12});
  for (std::size_t i = 0; i < 60; ++i)
    x.values()[i] = x64.dtype == DType::f32
                        ? reinterpret_cast<const float*>(x64.data)[i]
                        : static_cast<float>(reinterpret_cast<const double*>(x64.data)[i]);
  for (const std::string name : {"plain", "rslora", "patterns", "my_adapter"}) {
    CAPTURE(name);
    const auto adapter = load_adapter<Tiny>(goldens + name);
    for (const MatchedSlot& slot : adapter.report().matched) {
      const TensorView scale = golden.at("scale:" + name + "/" + slot.slot);
      CHECK(slot.scale == doctest::Approx(*reinterpret_cast<const double*>(scale.data)).epsilon(1e-15));
    }
    const TensorView expected = golden.at(name + "@1");
    const auto* reference = reinterpret_cast<const double*>(expected.data);
    const auto check = [&](const Tensor& y) {
      double largest = 0;
      for (std::int64_t i = 0; i < y.size(); ++i) largest = std::max(largest, std::abs(reference[i]));
      for (std::size_t i = 0; i < y.values().size(); ++i) // float products of 12 terms: some 2^-24 each
        CHECK(std::abs(static_cast<double>(y.values()[i]) - reference[i]) <= 1e-6 * largest);
    };
    {
      const Guard guard = session.attach(adapter);
      check(session(x));
    }
    const Guard guard = session.attach<merged>(adapter);
    check(session(x));
  }
}

TEST_CASE("An adapter's name inside the keys is read over") {
  const TemporaryFolder folder;
  write_file(folder.file("adapter_model.safetensors"), read_file(goldens + "in_memory_keys.safetensors"));
  write_file(folder.file("adapter_config.json"), read_file(goldens + "my_adapter/adapter_config.json"));
  const auto with_name = load_adapter<Tiny>(folder.path());
  const auto without = load_adapter<Tiny>(goldens + "my_adapter");
  CHECK(with_name.report().matched.size() == without.report().matched.size());
}

TEST_CASE("Values stay in the mapping") {
  Ledger ledger;
  Folder folder;
  folder.add_pair("fc1", 12, 8);
  const auto adapter = load_adapter<Tiny>(folder.write(), {.ledger = &ledger});
  const std::span<const std::byte> file = adapter.data()->file.files()[0].contents();
  for (const SlotFactors& factors : adapter.data()->factors) {
    CHECK((factors.a.data >= file.data() && factors.a.data < file.data() + file.size()));
    CHECK((factors.b.data >= file.data() && factors.b.data < file.data() + file.size()));
  }
  CHECK(ledger.current()[Category::adapter] == adapter.bytes());
  CHECK(ledger.current().total() == adapter.bytes());
}

TEST_CASE("Everything that does not fit is reported together before anything is attached") {
  Folder folder;
  folder.add_pair("fc1", 12, 9);                                    // B is [9, 2]
  folder.add_pair("fcl", 8, 6);                                     // no such slot
  folder.tensors.add("base_model.model.fc2.lora_A.weight", {2, 8}); // no partner
  folder.tensors.add("base_model.model.fc2.lora_A.scaling", {2});   // no known ending
  folder.tensors.add("lora_unet_fc2.lora_down.weight", {2, 8});     // another tool's name
  CHECK(
      refusal(folder) ==
      "PEFT adapter, 0 slots matched, 5 findings; not one slot of this net is named in the file\n"
      "  unmatched key: base_model.model.fc2.lora_A.scaling: expected a name that begins with "
      "base_model.model., and an ending such as .lora_A.weight\n"
      "  unmatched key: lora_unet_fc2.lora_down.weight: expected a name that begins with base_model.model., "
      "and an ending such as .lora_A.weight\n"
      "  wrong shape: base_model.model.fc1.lora_B.weight: expected [8, 2] [out, rank], got [9, 2]\n"
      "  incomplete pair: base_model.model.fc2.lora_A.weight: its partner LoRA B is missing\n"
      "  unmatched key: base_model.model.fcl.lora_A.weight: the net has no slot fcl; the nearest is fc1");
}

TEST_CASE("A rank that is not the configuration's is refused") {
  Folder folder;
  folder.add_pair("fc1", 12, 8, 3);
  CHECK(refusal(folder) ==
        "PEFT adapter, 0 slots matched, 2 findings; not one slot of this net is named in the file\n"
        "  wrong shape: base_model.model.fc1.lora_A.weight: expected [2, 12] [rank, in], got [3, 12]\n"
        "  wrong shape: base_model.model.fc1.lora_B.weight: expected [8, 2] [out, rank], got [8, 3]");
}

TEST_CASE("A setting that would change the result is refused by name") {
  Folder folder;
  folder.add_pair("fc1", 12, 8);
  CHECK(refusal(folder, R"("r": 2, "lora_alpha": 4, "use_qalora": true)").find("unsupported setting: ") !=
        std::string::npos);
}

TEST_CASE("A DoRA adapter without its magnitudes is incomplete") {
  Folder folder;
  folder.add_pair("fc1", 12, 8);
  CHECK(refusal(folder, R"("r": 2, "lora_alpha": 4, "use_dora": true)") ==
        "PEFT adapter, 0 slots matched, 1 finding; not one slot of this net is named in the file\n"
        "  incomplete pair: base_model.model.fc1.lora_A.weight: its partner DoRA magnitude is missing");
}

TEST_CASE("A value that is no number is found unless the check is turned off") {
  Folder folder;
  folder.add_pair("fc1", 12, 8);
  const std::string path = folder.write();
  const std::string file = folder.folder.file("adapter_model.safetensors");
  std::string bytes = read_file(file);
  const float nan = std::nanf("");
  std::memcpy(bytes.data() + bytes.size() - sizeof nan, &nan, sizeof nan); // the last of B
  write_file(file, bytes);
  try {
    (void)load_adapter<Tiny>(path);
    FAIL("nothing was thrown");
  } catch (const load_error& problem) {
    const std::string message = problem.what();
    CHECK(message.ends_with("not finite: base_model.model.fc1.lora_B.weight: its value number 15 is NaN or "
                            "infinite"));
  }
  CHECK(load_adapter<Tiny>(path, {.on_mismatch = OnMismatch::report})
            .report()
            .matched.empty()); // not half bound
  CHECK_NOTHROW((void)load_adapter<Tiny>(path, {.checks_values = false}));
}

TEST_CASE("Two keys for one place are a duplicate") {
  Folder folder;
  folder.add_pair("fc1", 12, 8);
  folder.tensors.add("base_model.model.fc1.lora_A.default.weight", {2, 12});
  CHECK(refusal(folder) == "PEFT adapter, 1 slots matched, 1 finding\n"
                           "  duplicate: base_model.model.fc1.lora_A.weight: its slot already has "
                           "base_model.model.fc1.lora_A.default.weight");
}

TEST_CASE("Report-only loads what fits and tells the rest") {
  Folder folder;
  folder.add_pair("fc1", 12, 8);
  folder.add_pair("fc7", 8, 6);
  const auto adapter = load_adapter<Tiny>(folder.write(), {.on_mismatch = OnMismatch::report});
  CHECK(adapter.report().matched.size() == 1);
  CHECK(adapter.report().findings.size() == 1);
  CHECK_FALSE(adapter.report().fits());
  const auto model = open<Tiny>(goldens + "tiny.safetensors");
  Session session(model);
  const Guard guard = session.attach(adapter);
  CHECK(guard.slot_count() == 1);
}

TEST_CASE("The report prints as tables of what matched and of what did not") {
  Folder folder;
  folder.add_pair("fc1", 12, 8);
  folder.add_pair("fc7", 8, 6);
  const auto adapter = load_adapter<Tiny>(folder.write(), {.on_mismatch = OnMismatch::report});
  const std::string table = adapter.report().table();
  CHECK(table.substr(table.find('\n') + 1) ==
        "slot  kind  rank  scale\n"
        "fc1   LoRA  2     2\n"
        "finding        key                                 what\n"
        "unmatched key  base_model.model.fc7.lora_A.weight  the net has no slot fc7; the nearest is fc1\n");
}

TEST_CASE("A missing file or configuration is said with its path") {
  const TemporaryFolder folder;
  CHECK_THROWS_AS((void)load_adapter<Tiny>(folder.path()), error);
  CHECK_THROWS_AS((void)load_adapter<Tiny>(folder.file("nothing")), error);
}

TEST_CASE("An adapter of compile-time rank has known bytes and refuses another rank") {
  using Rank2 = LoraOfRank<2>;
  static_assert(adapter_parameters<Tiny, Rank2>() == 2 * (12 + 8) + 2 * (8 + 6));
  static_assert(adapter_bytes<Tiny, Rank2>(bf16) == 2 * adapter_parameters<Tiny, Rank2>());
  Folder folder;
  folder.add_pair("fc1", 12, 8);
  const std::string path = folder.write();
  CHECK_NOTHROW((void)load_adapter<Tiny, Rank2>(path));
  CHECK_THROWS_AS((void)(load_adapter<Tiny, LoraOfRank<4>>(path)), load_error);
}

TEST_CASE("A slot that accepts no LoRA is not offered") {
  using Closed = Sequential<Linear<"fc1", 12, 8, NoSlot>, Linear<"fc2", 8, 6>>;
  static_assert(slot_count<Closed> == 1);
  Folder folder;
  folder.add_pair("fc1", 12, 8);
  CHECK_THROWS_AS((void)load_adapter<Closed>(folder.write()), load_error);
}

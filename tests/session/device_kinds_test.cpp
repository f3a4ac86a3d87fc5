// SPDX-License-Identifier: Apache-2.0
// What a device takes beside weights, what it says of the rest, and changes of biases, of norms as well.
#include "session/on_device.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace tenon;
using namespace tenon::test;

namespace {

/// Why `action` was refused as unsupported.
template <class F>
[[nodiscard]] std::string refusal(F action) {
  try {
    action();
  } catch (const error& why) {
    return why.code() == ErrorCode::unsupported ? why.what() : "another code";
  }
  return "nothing";
}

using Norms = NormSlots<Sequential<LayerNorm<"first", 6>, Linear<"up", 6, 10>, LayerNorm<"last", 10>>>;

/// Where files of Norms are, and a device for it.
struct Files {
  TemporaryFolder folder{};
  Ledger ledger{};
  std::shared_ptr<StandInDevice> gpu = std::make_shared<StandInDevice>(program_of<Norms>());
};

} // namespace

TEST_CASE("Beside weights a device refuses other kinds than LoRA by name, and says what to do") {
  OnDevice<Mlp> f;
  Session session(f.moved);
  const Held before(f);
  for (const auto& [kind, name] : {std::pair{"DORA", "DoRA"},
                                   {"LOHA", "LoHa"},
                                   {"LOKR", "LoKr"},
                                   {"IA3", "IA3"},
                                   {"OFT", "OFT"},
                                   {"BOFT", "BOFT"},
                                   {"GLORA", "GLoRA"},
                                   {"DIFF", "diff"},
                                   {"LORA8", "LoRA of F8_E4M3"}}) {
    const auto adapter = f.load(kind);
    CHECK(refusal([&] { (void)session.attach(f.tone, adapter); }) ==
          concat("attach (side path): ", adapter.data()->file.path(), " has ", name,
                 " at up, which a device computes only merged; attach<merged> it, make LoRA of it with "
                 "tenon-convert, or open the model on the host"));
  }
  CHECK(session.adapter_copies().uploads == 0);
  CHECK(Held(f).on_device == before.on_device);
}

TEST_CASE("Automatic merges on a device what it does not compute beside weights, and says why") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    OnDevice<Mlp> f(dtype);
    const auto dora = f.load("DORA");
    Session session(f.moved);
    const std::string why =
        concat(dora.data()->file.path(), " has DoRA at up, which a device computes only merged");
    {
      const Guard guard = session.attach<automatic>(f.tone, dora);
      CHECK(guard.mode() == AttachMode::merged);
      CHECK(guard.plan().reason == concat("merged: ", why));
    }
    f.memory().set_budget(f.memory().current().budgeted() +
                          session.plan<in_place>(dora).device_bytes.total());
    {
      const Guard guard = session.attach<automatic>(dora);
      CHECK(guard.mode() == AttachMode::in_place);
      CHECK(guard.plan().reason == concat("in place: ", why));
    }
    CHECK(f.has_pristine_weights());
    f.memory().set_budget(-1);
    const Session other(f.moved); // nothing is left but overlays, for which there is no room
    f.memory().set_budget(f.memory().current().budgeted());
    CHECK(session.plan<automatic>(dora).mode == AttachMode::merged);
    CHECK_THROWS_AS((void)session.attach<automatic>(dora), budget_error);
    f.memory().set_budget(-1);
    CHECK(session.plan<automatic>(f.tone).mode ==
          AttachMode::side_path); // LoRA alone: by the rule of the host
  }
}

TEST_CASE(
    "Biases of norms on a device are the host's in every mode, of any stored type, and may be rescaled") {
  for (const std::string_view kind : {"DIFF", "DIFF8"}) {
    Files f;
    write_checkpoint<Norms>(f.folder.file("norms.safetensors"));
    const auto model = open<Norms>(f.folder.file("norms.safetensors"), {.ledger = &f.ledger});
    const auto moved =
        open<Norms, on_device>(f.folder.file("norms.safetensors"), f.gpu, {.ledger = &f.ledger});
    Session<Norms> on_host(model);
    Session<Norms, on_device> session(moved);
    Ledger& memory = moved.device_ledger();
    RandomTensors tensors(5, kind == "DIFF8" ? DType::f8_e4m3 : DType::f32);
    tensors.add("diffusion_model.first.diff_b", {6});
    tensors.add("diffusion_model.up.diff_b", {10});
    tensors.add("diffusion_model.last.diff_b", {10});
    tensors.write(f.folder.file("biases.safetensors"));
    const auto biases = load_adapter<Norms>(f.folder.file("biases.safetensors"), {.ledger = &f.ledger});
    const auto all =
        load_adapter<Norms>(write_kind<Norms>(f.folder.file("all"), kind), {.ledger = &f.ledger});
    const Tensor x = ramp({3, 6});
    const Tensor base = session(x);
    const auto check = [&](auto mode, const auto& adapter) {
      using Mode = decltype(mode);
      const BytesByCategory before = memory.current();
      const AttachPlan plan = session.template plan<Mode>(adapter, 0.5);
      {
        const PeakScope device_peak(memory);
        Guard there = session.template attach<Mode>(adapter, 0.5);
        CHECK(device_peak.peak_above_start() == plan.device_bytes.total());
        Guard here = on_host.template attach<merged>(adapter, 0.5);
        CHECK(session(x) == on_host(x));
        CHECK_FALSE(session(x) == base);
        for (const double factor : {-2.0, 0.5}) {
          there.rescale(factor);
          here.rescale(factor);
          CHECK(session(x) == on_host(x));
        }
      }
      CHECK(session(x) == base);
      CHECK(memory.current() == before);
    };
    in_each_mode([&](auto mode) { check(mode, biases); });
    check(merged{}, all);
    check(in_place{}, all);
  }
}

TEST_CASE("A bias at an op whose step on a device adds none is refused by name in every mode") {
  using Own = NormSlots<Normalization<"mine", 6, Epsilon{}, "OwnNorm", &layer_norm_step, 1>>;
  const TemporaryFolder folder;
  write_checkpoint<Own>(folder.file("own.safetensors"));
  const auto gpu = std::make_shared<StandInDevice>(program_of<Own>());
  const auto model = open<Own, on_device>(folder.file("own.safetensors"), gpu);
  RandomTensors tensors(5, DType::f32);
  tensors.add("diffusion_model.mine.diff_b", {6});
  tensors.write(folder.file("bias.safetensors"));
  const auto bias = load_adapter<Own>(folder.file("bias.safetensors"));
  Session<Own, on_device> session(model);
  in_each_mode([&]<class Mode>(Mode) {
    CHECK(
        refusal([&] { (void)session.attach<Mode>(bias); }) ==
        concat("attach (", attach_mode_name(Mode::mode), "): ", folder.file("bias.safetensors"),
               " has a bias at mine, and a device's step of OwnNorm adds none; open the model on the host"));
  });
}

TEST_CASE("A device holds of an adapter what it reads: nothing of DoRA, of GLoRA what is for biases") {
  OnDevice<Mlp> f;
  Session session(f.moved);
  for (const auto& [kind, bytes] :
       {std::pair{"DORA", 0}, {"LORA8", 0}, {"GLORA", 2 * 4 * (10 + 6)}, {"DIFF", 4 * (10 + 6)}}) {
    CAPTURE(std::string(kind));
    const auto adapter = f.load(kind);
    const DeviceCounts before = session.adapter_copies();
    session.load(adapter);
    CHECK(session.is_resident(adapter));
    CHECK(session.adapter_copies().upload_bytes - before.upload_bytes == bytes);
    {
      const Guard guard = session.attach<merged>(adapter);
      CHECK(session.adapter_copies().upload_bytes - before.upload_bytes == bytes);
    }
    session.evict(adapter);
    CHECK_FALSE(session.is_resident(adapter));
  }
}

TEST_CASE("A bias made of the weight comes to a device once, and a new strength moves nothing") {
  OnDevice<Mlp> f;
  FloatTensors tensors; // PEFT's GLoRA with a change of the bias alone
  for (const auto& [name, in, out] : {std::tuple{"up", 6, 10}, {"down", 10, 6}}) {
    const std::string path = concat("base_model.model.", name, ".glora_");
    const auto add = [&](const char* part, std::int64_t size, float value) {
      tensors.add(path + part, {size}, std::vector<float>(static_cast<std::size_t>(size), value));
    };
    for (const char* part : {"A.X", "B.X"}) add(part, 1, 0.0f);
    tensors.add(path + "C.X", {in, 1}, std::vector<float>(static_cast<std::size_t>(in), 0.5f));
    add("D.X", out, 0.25f);
    add("E.X", out, -0.5f);
  }
  std::filesystem::create_directories(f.folder.file("glora"));
  static_cast<void>(tensors.write(f.folder.file("glora") + "/adapter_model.safetensors"));
  write_file(f.folder.file("glora") + "/adapter_config.json", R"({"peft_type": "GLORA", "r": 3})");
  const auto glora = load_adapter<Mlp>(f.folder.file("glora"), {.ledger = &f.ledger});
  Session on_host(f.model);
  Session session(f.moved);
  const Tensor x = ramp({3, 6});
  static_cast<void>(session(x));
  const Held before(f);
  {
    Guard there = session.attach<merged>(glora);
    Guard here = on_host.attach<merged>(glora);
    CHECK(there.plan().made_floats == 16);
    CHECK(session(x) == on_host(x));
    there.rescale(0.5);
    here.rescale(0.5);
    CHECK(session(x) == on_host(x));
  }
  CHECK(Held(f).on_device == before.on_device);
}

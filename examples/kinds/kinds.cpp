// SPDX-License-Identifier: Apache-2.0
// Adapters of other kinds, by other tools: what is in a file is told without a model; the same call loads and
// attaches it, whoever wrote it; what does not fit is said before anything happens. The files are made here: a
// LoHa under kohya's flattened names, and a DoRA under diffusers'.
//
// Expected output:
//   loha: kohya, up: LoHa of rank 2, alpha -0.5
//   dora: diffusers, up: LoRA + DoRA of rank 2
//   loha at 1: the weight itself is untouched: yes; beside and merged agree: yes
//   dora at 1: the weight itself is untouched: yes; beside and merged agree: yes
//   twice loha on "up" only is its weighted copy at 2: yes
//   a slot for LoRA alone: refused kind: lora_unet_up.alpha: it is LoHa; the slot accepts LoRA
#include "../first/make_files.hpp"

#include <tenon/adapters/inspect.hpp>
#include <tenon/tenon.hpp>

#include <cmath>
#include <cstdio>

namespace tn = tenon;

namespace {

using Net = tn::Sequential<tn::Linear<"up", 4, 8>, tn::Gelu, tn::Linear<"down", 8, 4>>;
using LoraOnly =
    tn::Sequential<tn::Linear<"up", 4, 8, tn::Slot<tn::Lora>>, tn::Gelu, tn::Linear<"down", 8, 4>>;

const char* yes(bool is_true) { return is_true ? "yes" : "no"; }

bool are_near(const tn::Tensor& a, const tn::Tensor& b) {
  for (std::size_t i = 0; i < a.values().size(); ++i)
    if (std::fabs(a.values()[i] - b.values()[i]) > 1e-5f) return false;
  return true;
}

void describe(const char* name, const std::string& path) {
  const tn::AdapterSummary summary = tn::inspect_adapter(path);
  const tn::ModuleSummary& module = summary.modules.front();
  std::printf("%s: %.*s, %s: %s of rank %d", name, static_cast<int>(summary.dialect.size()),
              summary.dialect.data(), module.name.c_str(), module.kind.c_str(),
              static_cast<int>(module.rank));
  if (module.alpha) std::printf(", alpha %g", *module.alpha);
  std::printf("\n");
}

int run() {
  const first::Files files("tenon-kinds");
  const std::string loha_path = files.write_adapter("loha.safetensors", {{"lora_unet_up.hada_w1_a", {8, 2}},
                                                                         {"lora_unet_up.hada_w1_b", {2, 4}},
                                                                         {"lora_unet_up.hada_w2_a", {8, 2}},
                                                                         {"lora_unet_up.hada_w2_b", {2, 4}},
                                                                         {"lora_unet_up.alpha", {}}});
  const std::string dora_path =
      files.write_adapter("dora.safetensors", {{"transformer.up.lora_A.weight", {2, 4}},
                                               {"transformer.up.lora_B.weight", {8, 2}},
                                               {"transformer.up.dora_scale", {8, 1}}});
  describe("loha", loha_path);
  describe("dora", dora_path);

  const auto model = tn::open<Net>(files.model());
  tn::Session session(model);
  const tn::Tensor x = first::numbers({3, 4});
  const tn::Tensor base = session(x);
  const auto loha = tn::load_adapter<Net>(loha_path);
  const auto dora = tn::load_adapter<Net>(dora_path);
  const auto show = [&](const char* name, const auto& adapter) {
    const auto beside = [&] {
      const auto guard = session.attach(adapter);
      return session(x);
    }();
    const bool is_back = session(x) == base;
    const auto guard = session.template attach<tn::merged>(adapter);
    std::printf("%s at 1: the weight itself is untouched: %s; beside and merged agree: %s\n", name,
                yes(is_back), yes(are_near(beside, session(x))));
  };
  show("loha", loha);
  show("dora", dora);

  // a factor for each slot, by its path
  const auto by_slot = loha.weighted([](std::string_view path) { return path == "up" ? 2.0 : 0.0; });
  const auto weighted = [&] {
    const auto guard = session.attach(by_slot);
    return session(x);
  }();
  const auto guard = session.attach(loha, 2);
  std::printf("twice loha on \"up\" only is its weighted copy at 2: %s\n", yes(weighted == session(x)));

  const auto refused = tn::load_adapter<LoraOnly>(loha_path, {.on_mismatch = tn::OnMismatch::report});
  const tn::Finding& finding = refused.report().findings.front();
  std::printf("a slot for LoRA alone: %s: %s: %s\n", std::string(tn::finding_name(finding.kind)).c_str(),
              finding.key.c_str(), finding.what.c_str());
  return 0;
}

} // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "%s\n", problem.what());
    return 1;
  }
}

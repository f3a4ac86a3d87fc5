// SPDX-License-Identifier: Apache-2.0
// Norms with slots: a net with a stored difference attached gives what a net gives whose checkpoint has the sum. What the
// tools' own files give is in kinds_of_session_test.cpp.
#include "session/fixture.hpp"

#include <tenon/models/llama.hpp>

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

constexpr std::int64_t D = 8;
using Norms =
    Graph<Inputs<"x">, Let<"a", RmsNorm<"first", D>, "x">, Let<"b", HeadRmsNorm<"heads", D, 4>, "a">,
          Let<"c", AddNorm<"sum", D>, "b", "x">, Let<"y", LayerNorm<"last", D>, "c">, Outputs<"y">>;
using Net = NormSlots<Norms>;

/// One row of a ramp.
void add_ramp(FloatTensors& to, std::string name, std::int64_t size, float first, float step) {
  std::vector<float> values(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = first + step * static_cast<float>(i);
  to.add(std::move(name), {size}, std::move(values));
}

FloatTensors base_weights() {
  FloatTensors out;
  add_ramp(out, "first.weight", D, 0.5f, 0.25f);
  add_ramp(out, "heads.weight", 4, 1.5f, -0.25f);
  for (const std::string norm : {"sum", "last"}) {
    add_ramp(out, norm + ".weight", D, 1.0f, 0.125f);
    add_ramp(out, norm + ".bias", D, -0.5f, 0.125f);
  }
  return out;
}
/// As ComfyUI has them.
FloatTensors differences() {
  FloatTensors out;
  add_ramp(out, "diffusion_model.first.diff", D, 0.25f, -0.125f);
  add_ramp(out, "diffusion_model.heads.diff", 4, -0.5f, 0.25f);
  add_ramp(out, "diffusion_model.sum.diff", D, 0.5f, 0.125f);
  add_ramp(out, "diffusion_model.sum.diff_b", D, 0.25f, 0.125f);
  add_ramp(out, "diffusion_model.last.diff_b", D, 1.0f, -0.25f);
  return out;
}
/// base_weights() + strength * differences(), whose values are exact in float.
FloatTensors sums(float strength) {
  FloatTensors out = base_weights();
  for (const FloatTensors::Entry& difference : differences().entries) {
    std::string name = difference.name.substr(std::string_view("diffusion_model.").size());
    name = name.ends_with("_b") ? name.substr(0, name.size() - 6) + "bias"
                                : name.substr(0, name.size() - 4) + "weight";
    for (FloatTensors::Entry& entry : out.entries)
      for (std::size_t i = 0; entry.name == name && i < entry.values.size(); ++i)
        entry.values[i] += strength * difference.values[i];
  }
  return out;
}

} // namespace

TEST_CASE("Differences of every norm and of their biases, in all modes and at any strength") {
  const TemporaryFolder folder;
  const auto model = open<Net>(base_weights().write(folder.file("base.safetensors")));
  const auto own = open<Net>(folder.file("base.safetensors"), {.own_weights = true});
  const auto adapter = load_adapter<Net>(differences().write(folder.file("norms.safetensors")));
  CHECK(adapter.report().matched.size() == 4); // the last has a bias alone
  const Tensor x = ramp({2, 3, D});
  for (const float strength : {1.0f, 0.5f, -2.0f}) {
    CAPTURE(strength);
    const auto summed = open<Norms>(sums(strength).write(folder.file("sum.safetensors")));
    Session<Norms> reference(summed);
    const Tensor expected = reference(x);
    const auto check = [&](auto& session, auto mode) {
      const Tensor base = session(x);
      {
        const Guard guard = session.template attach<decltype(mode)>(adapter, strength);
        session.use_threads(2);
        CHECK(relative_error(session(x).values(), expected.values()) < 1e-6);
        session.use_threads(1);
      }
      CHECK(session(x) == base);
    };
    Session<Net> mapped(model);
    check(mapped, side_path{});
    check(mapped, merged{});
    Session<Net> owner(own);
    check(owner, in_place{});
  }
}

TEST_CASE("Norms have slots where they are asked for, and Targets close them again") {
  static_assert(slot_count<Norms> == 0 && slot_count<Net> == 4);
  static_assert(slot_count<Targeted<Net, Targets<"last">>> == 1);
  using Plain = models::Llama<models::llama3_8b>;
  static_assert(slot_count<NormSlots<Plain>> == slot_count<Plain> + 2 * 32 + 1);
  static_assert(slots<Net>[0].kinds == NormSlot::kinds && slots<Net>[0].in == 1);
  CHECK((program_of<Norms>().steps[0].scratch == nullptr));
}

TEST_CASE("What a norm's slot cannot take is refused in a sentence") {
  const TemporaryFolder folder;
  const auto refusal_of = [&](const FloatTensors& file) {
    try {
      (void)load_adapter<Net>(file.write(folder.file("refused.safetensors")));
    } catch (const load_error& e) {
      return std::string(e.what());
    }
    return std::string("not refused");
  };
  FloatTensors lora;
  lora.add("diffusion_model.first.lora_A.weight", {1, 1}, {1});
  lora.add("diffusion_model.first.lora_B.weight", {D, 1}, std::vector<float>(D));
  CHECK(refusal_of(lora).find("it is LoRA; the slot accepts diff, bias") != std::string::npos);
  FloatTensors bias;
  add_ramp(bias, "diffusion_model.first.diff_b", D, 1, 1); // an RmsNorm has none
  CHECK(refusal_of(bias).find("the module has no bias that it could change") != std::string::npos);
  FloatTensors narrow;
  add_ramp(narrow, "diffusion_model.last.diff", 5, 1, 1);
  CHECK(refusal_of(narrow).find("expected [8, 1]") != std::string::npos);
}

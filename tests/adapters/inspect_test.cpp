// SPDX-License-Identifier: Apache-2.0
#include <tenon/adapters/inspect.hpp>

#include <doctest/doctest.h>

using namespace tenon;

namespace {

const std::string kinds = TENON_TEST_DATA "/goldens/kinds/";

const ModuleSummary& module(const AdapterSummary& summary, std::string_view name) {
  for (const ModuleSummary& each : summary.modules)
    if (each.name == name) return each;
  throw std::runtime_error("no such module");
}

} // namespace

TEST_CASE("What a PEFT folder holds is told without a model") {
  const AdapterSummary summary = inspect_adapter(kinds + "peft/lora-plain");
  CHECK(summary.dialect == "PEFT");
  CHECK(summary.method == "LORA");
  CHECK(summary.findings.empty());
  const ModuleSummary& query = module(summary, "attn.q");
  CHECK(query.kind == "LoRA");
  CHECK(query.rank > 0);
  CHECK(query.alpha.has_value());
  CHECK(query.dtype == DType::f32);
  CHECK(query.bytes == query.rank * (12 + 16) * 4);
}

TEST_CASE("Kinds are told apart by their tensors") {
  CHECK(inspect_adapter(kinds + "lycoris/loha-linear.safetensors").modules[0].kind == "LoHa");
  CHECK(inspect_adapter(kinds + "lycoris/lokr-dora-out.safetensors").modules[0].kind == "LoKr + DoRA");
  CHECK(inspect_adapter(kinds + "lycoris/glora-linear.safetensors").modules[0].kind == "GLoRA");
  CHECK(inspect_adapter(kinds + "lycoris/boft-linear.safetensors").modules[0].kind == "BOFT");
  CHECK(inspect_adapter(kinds + "lycoris/oft-linear.safetensors").modules[0].kind == "OFT");
  CHECK(inspect_adapter(kinds + "peft/vera-linear").modules[0].kind == "VeRA");
  const AdapterSummary glora = inspect_adapter(kinds + "peft/glora-bias-glora-only");
  CHECK(glora.method == "GLORA");
  CHECK(glora.modules[0].kind == "GLoRA + bias");
  CHECK(glora.modules[0].rank == 3);
  CHECK_FALSE(glora.modules[0].alpha.has_value());
  CHECK(inspect_adapter(kinds + "kohya/lora-linear.safetensors").dialect == "kohya");
}

TEST_CASE("The summary prints as a table") {
  const std::string text = inspect_adapter(kinds + "kohya/lora-linear.safetensors").text();
  CHECK(text.find("kohya, ") != std::string::npos);
  CHECK(text.find("\nmodule ") != std::string::npos);
  CHECK(text.find("attn_q") != std::string::npos);
}

// SPDX-License-Identifier: Apache-2.0
// What is in an adapter file, without a model: its dialect and, for each module, kind, rank, alpha, scale, dtype
// and bytes. Whether it fits a model only load_adapter can say. Cost: O(tensors), the values are not read but for
// the numbers alpha and scale.
#pragma once

#include <tenon/adapters/adapter_file.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/core/text_table.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

struct ModuleSummary {
  std::string name{};           ///< as the file writes it
  std::string_view component{}; ///< "denoiser", "text_encoder" ...; empty where the file does not say
  std::string_view expert{};
  std::string kind{};    ///< "LoRA", "LoHa + DoRA", "diff + bias"
  std::int64_t rank = 0; ///< 0 where the kind has none
  std::optional<double> alpha{};
  DType dtype = DType::f32; ///< of its largest tensor
  std::int64_t bytes = 0;
};

struct AdapterSummary {
  std::string file{};
  std::string_view dialect{};
  std::string_view method{}; ///< PEFT's peft_type, where there is a configuration
  std::int64_t bytes = 0;    ///< of all tensors
  std::vector<ModuleSummary> modules{};
  std::vector<Finding> findings{}; ///< keys that no dialect explains, and the like

  /// A line for the whole, a table with a row for each module, the findings.
  [[nodiscard]] std::string text() const;
};

/// The rank that a module's tensors have: of A, of w1_b, of b2, of Xu.
[[nodiscard]] inline std::int64_t rank_of(const AdapterModule& module) noexcept {
  using enum AdapterPart;
  for (const AdapterPart part : {lora_a, embedding_a, hada_w1_b, lokr_w1_b, lokr_w2_b, glora_b2, glora_a_u,
                                 glora_b_u, glora_c_u, vera_lambda_d})
    if (const CheckpointTensor* const tensor = module.find(part))
      return tensor->view.rank == 0 ? 0 : tensor->view.extent(0);
  return 0;
}

[[nodiscard]] inline std::string kind_text(const AdapterModule& module) {
  const std::optional<AdapterKind> kind = kind_of(module);
  std::string out(kind ? adapter_kind_name(*kind) : std::string_view("unknown"));
  if (module.has(AdapterPart::magnitude)) out += " + DoRA";
  if (module.has_bias() && kind != AdapterKind::bias) out += " + bias";
  return out;
}

/// Throws as `AdapterFile::open`.
[[nodiscard]] TENON_INLINE AdapterSummary inspect_adapter(const std::string& path,
                                                          const AdapterFileOptions& options = {});

#if TENON_HAS_BODIES
TENON_INLINE AdapterSummary inspect_adapter(const std::string& path, const AdapterFileOptions& options) {
  const AdapterFile file = AdapterFile::open(path, options);
  AdapterSummary out{.file = file.file().path(), .dialect = file.dialect().name, .findings = file.findings()};
  for (const AdapterModule& module : file.modules()) {
    ModuleSummary row{.name = module.name, .component = module.component, .expert = module.expert};
    row.kind = kind_text(module);
    row.rank = rank_of(module);
    if (const CheckpointTensor* const alpha = module.find(AdapterPart::alpha)) row.alpha = number_in(*alpha);
    if (const PeftConfig* const config = file.config(module.component)) {
      out.method = peft_type_name(config->type);
      if (config->rank > 0) row.alpha = config->alpha_of(module.name);
    }
    std::int64_t largest = 0;
    for (const AdapterModule::Part& part : module.parts) {
      const std::int64_t bytes = part.tensor->view.bytes();
      row.bytes += bytes;
      if (bytes < largest) continue;
      largest = bytes;
      row.dtype = part.tensor->view.dtype;
    }
    out.bytes += row.bytes;
    out.modules.push_back(std::move(row));
  }
  return out;
}
#endif

#if TENON_HAS_BODIES
TENON_INLINE std::string AdapterSummary::text() const {
  std::vector<std::vector<std::string>> rows{
      {"module", "component", "kind", "rank", "alpha", "dtype", "bytes"}};
  for (const ModuleSummary& module : modules)
    rows.push_back({module.name, concat(module.component, module.expert.empty() ? "" : " ", module.expert),
                    module.kind, module.rank == 0 ? std::string("-") : concat(module.rank),
                    module.alpha ? rounded_text(*module.alpha) : std::string("-"),
                    std::string(dtype_name(module.dtype)), bytes_text(module.bytes)});
  std::string out = concat(file, ": ", dialect, method.empty() ? "" : " ", method, ", ", modules.size(),
                           " modules, ", bytes_text(bytes), "\n");
  out += text_table(rows);
  for (const Finding& finding : findings)
    out += concat(finding_name(finding.kind), ": ", finding.key, ": ", finding.what, "\n");
  return out;
}
#endif

} // namespace tenon

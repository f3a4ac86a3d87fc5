// SPDX-License-Identifier: Apache-2.0
// tenon-inspect: what is in an adapter file, without a model: its naming convention, kinds, ranks, scales, modules, bytes
// and metadata; with --model, how it fits a checkpoint.
#include "tools.hpp"

using namespace tenon;
using tools::cell;
using tools::short_number;

namespace {

/// The rank that a module's own tensors show; 0 where its kind has none.
std::int64_t rank_in(const AdapterModule& module) {
  using enum AdapterPart;
  for (const AdapterPart part :
       {lora_a, embedding_a, hada_w1_b, lokr_w2_b, lokr_w1_b, glora_b2, vera_lambda_d})
    if (const CheckpointTensor* const tensor = module.find(part)) return flat_matrix(tensor->view).rows;
  return 0;
}

std::string scale_in(const AdapterFile& file, const AdapterModule& module, std::int64_t rank) {
  if (const CheckpointTensor* const scale = module.find(AdapterPart::scale))
    return short_number(number_in(*scale));
  if (const CheckpointTensor* const alpha = module.find(AdapterPart::alpha))
    return concat("alpha ", short_number(number_in(*alpha)));
  const PeftConfig* const config = file.config(module.component);
  if (config != nullptr && config->rank > 0 && rank > 0) return short_number(config->scale_of(module.name));
  return rank > 0 ? "1" : "";
}

std::string kind_text(const AdapterModule& module) {
  const auto kind = kind_of(module);
  if (!kind) return "nothing";
  const bool is_decomposed = module.has(AdapterPart::magnitude);
  if (is_decomposed && *kind == AdapterKind::lora) return "DoRA";
  return concat(adapter_kind_name(*kind), is_decomposed ? " with DoRA" : "");
}

void print_file(const AdapterFile& file, bool lists_modules) {
  const Checkpoint& weights = file.file();
  std::cout << "file       " << weights.path() << ", " << bytes_text(weights.bytes()) << ", "
            << weights.tensors().size() << " tensors\n"
            << "dialect    " << file.dialect().name << '\n';
  std::map<std::string, std::map<std::int64_t, int>> kinds;
  std::map<std::string, int> components;
  std::map<std::string_view, int> dtypes;
  for (const CheckpointTensor& tensor : weights.tensors()) ++dtypes[dtype_name(tensor.view.dtype)];
  for (const AdapterModule& module : file.modules()) {
    ++kinds[kind_text(module)][rank_in(module)];
    ++components[std::string(module.component)];
  }
  for (const auto& [kind, ranks] : kinds)
    for (const auto& [rank, modules] : ranks)
      std::cout << cell("kind", 9) << kind << (rank > 0 ? concat(" of rank ", rank) : "") << ", " << modules
                << " modules\n";
  for (const auto& [name, modules] : components)
    if (!name.empty()) std::cout << cell("component", 9) << name << ", " << modules << " modules\n";
  for (const auto& [name, tensors] : dtypes)
    std::cout << cell("dtype", 9) << name << ", " << tensors << " tensors\n";
  if (!weights.files().empty())
    for (const auto& [key, value] : weights.files()[0].header().metadata)
      std::cout << cell("metadata", 9) << key << " = " << value.substr(0, 100)
                << (value.size() > 100 ? " ..." : "") << '\n';
  for (const Finding& finding : file.findings())
    std::cout << cell("finding", 9) << finding_name(finding.kind) << ": " << finding.key << ": "
              << finding.what << '\n';
  if (!lists_modules) return;
  std::cout << '\n' << cell("module", 60) << cell("kind", 8) << cell("rank", 4) << "scale\n";
  for (const AdapterModule& module : file.modules()) {
    const std::int64_t rank = rank_in(module);
    std::cout << cell(module.name, 60) << cell(kind_text(module), 8) << cell(rank > 0 ? concat(rank) : "", 4)
              << scale_in(file, module, rank) << '\n';
  }
}

} // namespace

int main(int count, char** arguments) {
  CLI::App app("What is in an adapter file, and whether it fits a model.", "tenon-inspect");
  std::string path;
  bool lists_modules = false;
  tools::ReadArguments from;
  app.add_option("adapter", path, "Adapter: a safetensors file, or a folder as PEFT or diffusers saves it")
      ->required();
  app.add_flag("-l,--modules", lists_modules, "List every module");
  from.add(app);
  return tools::run(app, count, arguments, [&] {
    AdapterFile file = from.open(path);
    print_file(file, lists_modules);
    if (from.model.empty()) return;
    const Checkpoint model = Checkpoint::open(from.model, process_ledger(), Category::base_mapped);
    AdapterTargets targets = targets_of(model);
    const auto data = bind_adapter(file, targets, {.component = from.component, .expert = from.expert});
    tools::refuse_misfits(data->report);
    std::cout << "model      " << data->report.matched.size() << " modules of " << from.model
              << " are changed\n";
  });
}

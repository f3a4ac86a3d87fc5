// SPDX-License-Identifier: Apache-2.0
// tenon-inspect: what is in an adapter file, without a model: its naming convention, kinds, ranks, modules, bytes and
// metadata; with --model, how it fits a checkpoint.
#include "tools.hpp"

#include <tenon/adapters/inspect.hpp>

using namespace tenon;

namespace {

void print(const AdapterSummary& summary) {
  std::map<std::string, std::map<std::int64_t, int>> kinds;
  std::map<std::string, int> components;
  std::map<std::string, std::int64_t> dtypes;
  for (const ModuleSummary& module : summary.modules) {
    ++kinds[module.kind][module.rank];
    dtypes[std::string(dtype_name(module.dtype))] += module.bytes;
    if (!module.component.empty())
      ++components[concat(module.component, module.expert.empty() ? "" : ", ", module.expert)];
  }
  const auto line = [](const char* name) -> std::ostream& { return std::cout << tools::cell(name, 9); };
  line("file") << summary.file << ", " << bytes_text(summary.bytes) << '\n';
  line("dialect") << summary.dialect << (summary.method.empty() ? "" : ", ") << summary.method << '\n';
  for (const auto& [name, modules] : components) line("component") << name << ", " << modules << " modules\n";
  for (const auto& [kind, ranks] : kinds)
    for (const auto& [rank, modules] : ranks)
      line("kind") << kind << (rank > 0 ? concat(" of rank ", rank) : "") << ", " << modules << " modules\n";
  for (const auto& [name, bytes] : dtypes) line("dtype") << name << ", " << bytes_text(bytes) << '\n';
}

void print_metadata(const Checkpoint& weights) {
  for (const SafetensorsFile& file : weights.files())
    for (const auto& [key, value] : file.header().metadata)
      std::cout << tools::cell("metadata", 9) << key << " = " << value.substr(0, 100)
                << (value.size() > 100 ? " ..." : "") << '\n';
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
    const AdapterSummary summary =
        inspect_adapter(path, {.dialect = from.dialect, .adapter_name = from.adapter_name});
    print(summary);
    print_metadata(file.file());
    if (lists_modules) std::cout << '\n' << summary.text();
    for (const Finding& finding : summary.findings)
      if (!lists_modules) // the list has them
        std::cout << tools::cell("finding", 9) << finding_name(finding.kind) << ": " << finding.key << ": "
                  << finding.what << '\n';
    if (from.model.empty()) return;
    const Checkpoint model = Checkpoint::open(from.model, process_ledger(), Category::base_mapped);
    AdapterTargets targets = targets_of(model);
    const auto data = bind_adapter(file, targets, {.component = from.component, .expert = from.expert});
    tools::refuse_misfits(data->report);
    std::cout << tools::cell("model", 9) << data->report.matched.size() << " modules of " << from.model
              << " are changed\n";
  });
}

// SPDX-License-Identifier: Apache-2.0
// tenon-extract: the difference of two checkpoints as a LoRA, tensor by tensor.
#include "tools.hpp"

#include <tenon/adapters/extract.hpp>

using namespace tenon;

int main(int count, char** arguments) {
  CLI::App app("Make a LoRA of what a tuned checkpoint differs in from its base.", "tenon-extract");
  std::string base;
  std::string tuned;
  std::string out;
  std::string component;
  std::vector<std::string> only;
  std::vector<std::string> tables;
  std::int64_t convolution_rank = 0;
  bool is_exact = false;
  bool is_verbose = false;
  ExtractOptions options;
  tools::WriteArguments to;
  tools::RankArguments rank;
  app.add_option("base", base, "Checkpoint before")->required();
  app.add_option("tuned", tuned, "Checkpoint after")->required();
  app.add_option("output", out, "Where to write: a folder for peft, else a file")->required();
  rank.add(app, 16);
  app.add_option("--conv-rank", convolution_rank, "Rank of kernels larger than 1 (default: as the others)");
  app.add_option("--clamp", options.svd.clamp_quantile,
                 "Cut factors to this quantile of their values (kohya: 0.99)")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--min-difference", options.least_difference,
                 "Leave out tensors that nowhere differ by more");
  app.add_flag("--small", options.takes_small_tensors,
               "Take norms and biases as whole differences (kohya files)");
  app.add_option("--only", only, "Modules whose path ends in this pattern; may be repeated");
  app.add_option("--embedding", tables, "Modules that are embeddings; may be repeated");
  app.add_option("--component", component,
                 "Which part of a pipeline it is: unet, transformer, text_encoder ...");
  app.add_option("--seed", options.svd.seed, "Of the random projection of large tensors (default 0)");
  app.add_flag("--exact", is_exact, "Decompose every tensor in full");
  app.add_flag("-v,--verbose", is_verbose, "A line for each module, and for each tensor that is left out");
  to.add(app, false);
  return tools::run(app, count, arguments, [&] {
    const auto patterns = [](const std::vector<std::string>& texts) {
      std::vector<Pattern> list;
      for (const std::string& text : texts) list.emplace_back(text);
      return list;
    };
    const std::vector<Pattern> only_patterns = patterns(only);
    const std::vector<Pattern> table_patterns = patterns(tables);
    options.svd.rank = rank.rule;
    options.svd.dtype = to.options.dtype;
    if (is_exact) options.svd.method = SvdMethod::exact;
    if (convolution_rank > 0) {
      options.of_convolutions = rank.rule;
      options.of_convolutions->most = convolution_rank;
    }
    options.only = only_patterns;
    options.embeddings = table_patterns;
    const Checkpoint before = Checkpoint::open(base, process_ledger(), Category::base_mapped);
    const Checkpoint after = Checkpoint::open(tuned, process_ledger(), Category::base_mapped);
    Extracted made;
    {
      tools::ProgressLine line;
      options.progress = line;
      made = extract(before, after, options);
    }
    made.set.component = component;
    tools::write_adapter(out, {made.set}, to);
    std::vector<ConvertedModule> modules;
    for (const ExtractedModule& module : made.modules)
      modules.push_back({module.path, false, module.kept, module.error});
    tools::print_errors(modules, is_verbose);
    if (is_verbose)
      for (const LeftOut& tensor : made.left_out)
        std::cout << "left out   " << tensor.name << ": " << tensor.why << '\n';
    std::cout << made.set.diffs.size() << " whole differences, " << made.unchanged << " tensors unchanged, "
              << made.left_out.size() << " left out"
              << (made.left_out.empty() || is_verbose ? "" : " (-v names them)") << '\n';
  });
}

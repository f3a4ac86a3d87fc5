// SPDX-License-Identifier: Apache-2.0
// tenon-resize: an adapter at another rank, by number or by what is to be kept, with the error of each module stated.
#include "tools.hpp"

#include <tenon/adapters/resize.hpp>

using namespace tenon;

int main(int count, char** arguments) {
  CLI::App app("Write an adapter at another rank.", "tenon-resize");
  std::string in;
  std::string out;
  bool is_verbose = false;
  tools::ReadArguments from;
  tools::WriteArguments to;
  tools::RankArguments rank;
  app.add_option("input", in, "Adapter to read")->required();
  app.add_option("output", out, "Where to write: a folder for peft, else a file")->required();
  app.add_flag("-v,--verbose", is_verbose, "A line for each module");
  rank.add(app, 16);
  from.add(app);
  to.add(app);
  return tools::run(app, count, arguments, [&] {
    const tools::ReadAdapter adapter = tools::read_adapter(in, from, {.rank = {.most = 256}});
    std::vector<LoraSet> sets = adapter.sets();
    std::vector<ConvertedModule> made;
    for (LoraSet& set : sets)
      for (LoraModule& module : set.modules) {
        MadeLora resized = resize(module.pair, {.rank = rank.rule, .dtype = to.options.dtype});
        module.pair = std::move(resized.pair);
        made.push_back({module.path, false, resized.kept, resized.error});
      }
    tools::write_adapter(out, std::move(sets), to, &adapter);
    tools::print_errors(made, is_verbose);
  });
}

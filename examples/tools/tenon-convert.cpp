// SPDX-License-Identifier: Apache-2.0
// tenon-convert: an adapter of any naming convention and, with --model, of any kind, as plain LoRA in the format of PEFT,
// kohya or diffusers. LoRA keeps its factors; of other kinds the error is stated.
#include "tools.hpp"

using namespace tenon;

int main(int count, char** arguments) {
  CLI::App app("Write an adapter as plain LoRA in another tool's format.", "tenon-convert");
  std::string in;
  std::string out;
  bool is_verbose = false;
  tools::ReadArguments from;
  tools::WriteArguments to;
  tools::RankArguments rank;
  app.add_option("input", in, "Adapter to read")->required();
  app.add_option("output", out, "Where to write: a folder for peft, else a file")->required();
  app.add_flag("-v,--verbose", is_verbose, "A line for each module");
  from.add(app);
  to.add(app, false);
  rank.add(app, 64);
  return tools::run(app, count, arguments, [&] {
    const tools::ReadAdapter adapter =
        tools::read_adapter(in, from, {.rank = rank.rule, .dtype = to.options.dtype});
    tools::write_adapter(out, adapter.sets(), to, &adapter);
    for (const Converted& part : adapter.parts) tools::print_errors(part.modules, is_verbose);
  });
}

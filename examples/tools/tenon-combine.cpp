// SPDX-License-Identifier: Apache-2.0
// tenon-combine: several adapters as one: their weighted sum, exactly or at a rank, or one of the sparse merges that PEFT has.
#include "tools.hpp"

#include <tenon/adapters/combine_sets.hpp>

using namespace tenon;

namespace {

const LoraSet* part_of(const std::vector<LoraSet>& sets, const std::string& component) {
  for (const LoraSet& set : sets)
    if (set.component == component) return &set;
  return nullptr;
}

} // namespace

int main(int count, char** arguments) {
  CLI::App app("Make one adapter of several.", "tenon-combine");
  std::string out;
  std::vector<std::string> inputs;
  std::string method = "cat";
  std::string majority = "total";
  bool is_verbose = false;
  CombineOptions options;
  std::int64_t rank = 0;
  tools::ReadArguments from;
  tools::WriteArguments to;
  std::vector<std::string> methods;
  for (const CombineRecipe& recipe : combine_recipes) methods.emplace_back(recipe.name);
  app.add_option("output", out, "Where to write: a folder for peft, else a file")->required();
  app.add_option("adapters", inputs, "Adapters, each path or path=weight")->required();
  app.add_option("--method", method, "cat (default, exact), svd, or as PEFT names them")
      ->check(CLI::IsMember(methods));
  app.add_option("-r,--rank", rank,
                 "Of svd and the methods that end in it (default: the largest of the adapters')")
      ->check(CLI::PositiveNumber);
  app.add_option("--density", options.density, "Share of the elements that pruning keeps")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--majority", majority, "How ties elects signs: total or frequency")
      ->check(CLI::IsMember({"total", "frequency"}));
  app.add_option("--seed", options.seed, "Of what DARE drops (default 0)");
  app.add_flag("-v,--verbose", is_verbose, "A line for each module");
  from.add(app);
  to.add(app);
  return tools::run(app, count, arguments, [&] {
    options.method = combine_method_from_name(method).value();
    options.election = majority == "total" ? SignElection::total : SignElection::frequency;
    options.svd.rank.most = rank;
    options.svd.dtype = to.options.dtype;
    std::vector<tools::ReadAdapter> adapters;
    std::vector<std::vector<LoraSet>> sets;
    std::vector<double> weights;
    std::vector<std::string> components;
    for (const std::string& input : inputs) {
      const auto [path, weight] = tools::path_and_weight(input);
      adapters.push_back(tools::read_adapter(path, from, {.rank = {.most = 256}}));
      if (adapters.back().is_flattened != adapters.front().is_flattened)
        throw error(ErrorCode::bad_argument,
                    concat(path, ": expected names as in ", inputs[0], ", got ", adapters.back().dialect,
                           "'s; name the model's checkpoint (--model)"));
      sets.push_back(adapters.back().sets());
      if (!from.model.empty()) // all are for this one, whatever their files call it
        for (LoraSet& set : sets.back()) set.component = sets.front().front().component;
      weights.push_back(weight);
      for (const LoraSet& set : sets.back())
        if (std::find(components.begin(), components.end(), set.component) == components.end())
          components.push_back(set.component);
    }
    std::vector<LoraSet> combined;
    std::vector<ConvertedModule> made;
    for (const std::string& component : components) {
      std::vector<WeightedSet> parts;
      for (std::size_t i = 0; i < sets.size(); ++i)
        if (const LoraSet* const part = part_of(sets[i], component)) parts.push_back({part, weights[i]});
      CombinedSet one = combine_sets(parts, options);
      for (const CombinedModule& module : one.modules)
        made.push_back({module.path, !recipe_of(options.method).on_deltas, module.kept, module.error});
      combined.push_back(std::move(one.set));
    }
    adapters.front().metadata.clear(); // one adapter's would not be true of all
    tools::write_adapter(out, std::move(combined), to, &adapters.front());
    tools::print_errors(made, is_verbose);
  });
}

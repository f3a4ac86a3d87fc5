// SPDX-License-Identifier: Apache-2.0
// tenon-merge: a checkpoint with adapters of any kind merged into its weights, written as a stream: sharded as it was,
// with the memory of one buffer.
#include "tools.hpp"

#include <tenon/adapters/merged_checkpoint.hpp>

using namespace tenon;

int main(int count, char** arguments) {
  CLI::App app(
      "Merge adapters into a checkpoint. Only weights are written: copy the model's other files beside them.",
      "tenon-merge");
  std::string base;
  std::string out;
  std::vector<std::string> adapters;
  std::vector<std::string> metadata;
  std::int64_t buffer = 8;
  bool leaves_misfits = false;
  tools::ReadArguments from;
  app.add_option("checkpoint", base, "Safetensors file, index, or folder with one of them")->required();
  app.add_option("output", out, "A folder, or a file for a checkpoint of one file")->required();
  app.add_option("adapters", adapters, "Adapters, each path or path=weight")->required();
  app.add_option("--buffer", buffer, "MiB written together (default 8)")->check(CLI::Range(1, 4096));
  app.add_option("--metadata", metadata, "key=value for the headers; may be repeated");
  app.add_flag("--leave-misfits", leaves_misfits, "Merge what fits, and print the rest");
  from.add(app, false);
  return tools::run(app, count, arguments, [&] {
    const Checkpoint model = Checkpoint::open(base, process_ledger(), Category::base_mapped);
    AdapterTargets targets = targets_of(model);
    std::vector<std::shared_ptr<const AdapterData>> bound;
    std::vector<AdapterAt> terms;
    for (const std::string& text : adapters) {
      const auto [path, weight] = tools::path_and_weight(text);
      AdapterFile file = from.open(path);
      bound.push_back(bind_adapter(file, targets, {.component = from.component, .expert = from.expert}));
      if (leaves_misfits && !bound.back()->report.fits())
        std::cerr << bound.back()->report.text() << '\n';
      else
        tools::refuse_misfits(bound.back()->report);
      terms.push_back({bound.back().get(), weight});
    }
    CheckpointCopyOptions options{.buffer_bytes = buffer * 1024 * 1024};
    for (const std::string& pair : metadata) {
      const std::size_t at = pair.find('=');
      if (at == std::string::npos)
        throw error(ErrorCode::bad_argument, concat("--metadata ", pair, ": expected key=value"));
      options.metadata.emplace_back(pair.substr(0, at), pair.substr(at + 1));
    }
    CheckpointCopied written;
    {
      tools::ProgressLine line;
      options.progress = line;
      written = write_merged_checkpoint(model, targets, terms, out, options);
    }
    std::cout << written.changed << " of " << written.tensors << " tensors merged, "
              << bytes_text(written.bytes) << " in " << written.files.size()
              << (written.files.size() == 1 ? " file\n" : " files\n");
  });
}

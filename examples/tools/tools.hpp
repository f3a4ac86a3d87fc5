// SPDX-License-Identifier: Apache-2.0
// What the command-line tools share: reading adapters as plain LoRA, writing them, a line of progress, and the exit
// codes: 0 done, 1 it could not be done (the reason on stderr), 2 the command line is wrong.
#pragma once

#include <tenon/adapters/bind.hpp>
#include <tenon/adapters/export.hpp>
#include <tenon/adapters/lora_set_of.hpp>
#include <tenon/weights/checkpoint.hpp>

#include <CLI/CLI.hpp>

#include <charconv>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace tenon::tools {

/// Parses, then does `work()`.
template <class Work>
int run(CLI::App& app, int count, char** arguments, Work work) {
  const auto fail = [&](const char* what) {
    std::cerr << app.get_name() << ": " << what << '\n';
    return 1;
  };
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? 0 : 2; // 0: --help
  }
  try {
    work();
    return 0;
  } catch (const std::exception& problem) {
    return fail(problem.what());
  }
}

/// A line on a terminal that shows how far the work is; nothing where stderr is a file.
class ProgressLine {
 public:
#if defined(_WIN32)
  ProgressLine() = default;
#else
  ProgressLine() : is_terminal_(isatty(STDERR_FILENO) == 1) {}
#endif
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() {
    if (shown_ >= 0) std::fputs("\r\033[K", stderr);
  }
  void operator()(const Progress& progress) {
    if (!is_terminal_) return;
    const std::int64_t share =
        progress.bytes_total == 0 ? 100 : progress.bytes_done * 100 / progress.bytes_total;
    if (share == shown_) return;
    shown_ = share;
    const std::string line = concat("\r\033[K", share, " %  ", bytes_text(progress.bytes_done), " of ",
                                    bytes_text(progress.bytes_total), "  ", progress.name.substr(0, 60));
    std::fputs(line.c_str(), stderr);
  }

 private:
  bool is_terminal_ = false;
  std::int64_t shown_ = -1;
};

/// `text` as a table's cell; `number` with three digits.
inline std::string cell(std::string text, std::size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text + "  ";
}
inline std::string short_number(double value) {
  char digits[32];
  const int length = std::snprintf(digits, sizeof digits, "%.3g", value);
  return {digits, static_cast<std::size_t>(length)};
}

// --- command line ---------------------------------------------------------------------------------------
inline const std::map<std::string, DType> dtype_names{
    {"f32", DType::f32}, {"f16", DType::f16}, {"bf16", DType::bf16}};

inline void add_dtype(CLI::App& app, DType& dtype) {
  app.add_option("--dtype", dtype, "Type of the factors written (default f32)")
      ->transform(CLI::CheckedTransformer(dtype_names, CLI::ignore_case));
}

struct RankArguments {
  RankRule rule{};
  void add(CLI::App& app, std::int64_t most) {
    rule.most = most;
    app.add_option("-r,--rank", rule.most,
                   concat("Rank; with a share to reach, the most (default ", most, ")"))
        ->check(CLI::PositiveNumber);
    app.add_option("--energy", rule.energy,
                   "Least share of the sum of squares that is kept: a smaller rank where it is enough")
        ->check(CLI::Range(0.0, 1.0));
    app.add_option("--frobenius", rule.frobenius, "The same for the norm")->check(CLI::Range(0.0, 1.0));
  }
};

/// "adapter.safetensors=0.5" as a path and a weight; a name with '=' in it and no number behind is a path.
inline std::pair<std::string, double> path_and_weight(const std::string& text) {
  const std::size_t at = text.rfind('=');
  double weight = 1;
  if (at == std::string::npos) return {text, weight};
  const char* const end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data() + at + 1, end, weight);
  if (problem != std::errc{} || stop != end) return {text, 1};
  return {text.substr(0, at), weight};
}

// --- reading --------------------------------------------------------------------------------------------
struct ReadArguments {
  std::string model{}; ///< a checkpoint; empty: the file alone
  std::string dialect{};
  std::string adapter_name{};
  std::string component{};
  std::string expert{};

  void add(CLI::App& app, bool has_model = true) {
    if (has_model)
      app.add_option("-m,--model", model,
                     "Checkpoint that the adapter is for: its names are used, and kinds other than "
                     "LoRA can be read");
    std::vector<std::string> names;
    for (const Dialect& one : dialect_table) names.emplace_back(one.name);
    app.add_option("--dialect", dialect, "Naming convention of the file (default: recognised)")
        ->check(CLI::IsMember(names));
    app.add_option("--adapter-name", adapter_name, "Which adapter of a file with several");
    app.add_option("--component", component,
                   "Which part of a pipeline: denoiser, text_encoder, text_encoder_2 ...");
    app.add_option("--expert", expert, "high_noise or low_noise, of a file for two denoisers");
  }
  [[nodiscard]] AdapterFile open(const std::string& path) const {
    return AdapterFile::open(path, {.dialect = dialect, .adapter_name = adapter_name});
  }
};

/// An adapter as plain LoRA, a set for each component of its file.
struct ReadAdapter {
  std::string_view dialect{};
  bool is_flattened = false;            ///< its paths have underscores for dots
  std::vector<MetadataPair> metadata{}; ///< of its header, but for what a writer states anew
  std::vector<Converted> parts{};

  [[nodiscard]] std::vector<LoraSet> sets() const {
    std::vector<LoraSet> out;
    for (const Converted& part : parts) out.push_back(part.set);
    return out;
  }
};

inline void refuse_misfits(const AdapterReport& report) {
  if (!report.fits()) throw load_error(ErrorCode::bad_adapter, report.text(), {.file = report.file});
}

/// Which component of a file is meant for a model that is one.
inline std::string_view one_component(const AdapterFile& file, const ReadArguments& from) {
  if (!from.component.empty()) return from.component;
  const std::vector<std::string_view> all = components_of(file);
  if (all.size() <= 1) return all.empty() ? std::string_view{} : all[0];
  std::string names;
  for (const std::string_view name : all) names += concat(names.empty() ? "" : ", ", name);
  throw error(ErrorCode::bad_argument,
              concat(file.file().path(), ": expected an adapter for one model, got one for ", names,
                     "; choose with --component"));
}

/// Reads `path`; `svd` for what is no LoRA, which only a model lets be read. Throws with the whole report if a
/// key does not fit.
inline ReadAdapter read_adapter(const std::string& path, const ReadArguments& from,
                                const ToLoraOptions& svd) {
  AdapterFile file = from.open(path);
  ReadAdapter out{.dialect = file.dialect().name, .is_flattened = file.is_flattened() && from.model.empty()};
  if (!file.file().files().empty())
    for (const MetadataPair& pair : file.file().files()[0].header().metadata)
      if (pair.first != "lora_adapter_metadata" && !pair.first.starts_with("ss_network_") &&
          !pair.first.starts_with("sshs_"))
        out.metadata.push_back(pair); // sshs_*: hashes of the file
  const auto read = [&](AdapterFile& adapter, LaidOutTargets on, std::string_view component) {
    const auto data = bind_adapter(adapter, on.targets, {.component = component, .expert = from.expert});
    refuse_misfits(data->report);
    out.parts.push_back(lora_set_of(*data, on, svd));
    out.parts.back().set.component = component;
  };
  if (!from.model.empty()) {
    const Checkpoint model = Checkpoint::open(from.model, process_ledger(), Category::base_mapped);
    const std::string component(one_component(file, from));
    read(file, targets_of(model, file), component);
    return out;
  }
  std::vector<std::string> components;
  for (const std::string_view one : components_of(file))
    if (from.component.empty() || from.component == one) components.emplace_back(one);
  if (components.empty())
    throw load_error(ErrorCode::bad_adapter,
                     concat(path, ": expected keys for ",
                            from.component.empty() ? "a module" : from.component, ", got none"),
                     {.file = path});
  for (const std::string& component : components) {
    AdapterFile again = from.open(path);
    read(again, targets_of(again, component, from.expert), component);
  }
  return out;
}

// --- writing --------------------------------------------------------------------------------------------
struct WriteArguments {
  std::string format = "same";
  ExportOptions options{};
  std::vector<std::string> metadata{};

  void add(CLI::App& app, bool has_same = true) {
    std::vector<std::string> formats{"peft", "kohya", "diffusers"};
    if (has_same) formats.emplace_back("same");
    if (!has_same) format = "peft";
    app.add_option("-t,--to", format,
                   concat("Format to write (default ", format, "): a folder for peft, else a file"))
        ->check(CLI::IsMember(formats));
    add_dtype(app, options.dtype);
    app.add_option("--prefix", options.prefix,
                   "Instead of the component's own: lora_te2, text_encoder_2 ...");
    app.add_option("--base-name", options.config.base_model, "base_model_name_or_path of the configuration");
    app.add_flag("--rslora", options.config.is_rank_stabilised, "State scales as alpha / sqrt(rank)");
    app.add_option("--metadata", metadata, "key=value for the file's header; may be repeated");
  }
};

[[nodiscard]] inline std::string_view format_of(std::string_view dialect) {
  if (dialect == "PEFT") return "peft";
  return dialect == "kohya" || dialect == "LyCORIS" ? "kohya" : "diffusers";
}

/// What a pipeline calls its denoiser: diffusers has two names for it.
inline void name_denoiser(LoraSet& set) {
  if (set.component != "denoiser") return;
  set.component = "transformer";
  for (const LoraModule& module : set.modules)
    if (module.path.starts_with("down_blocks") || module.path.starts_with("mid_block") ||
        module.path.starts_with("up_blocks"))
      set.component = "unet";
}

/// Writes the sets; `like`: how they were read, for `same` and for names that cannot be written elsewhere.
inline void write_adapter(const std::string& path, std::vector<LoraSet> sets, const WriteArguments& to,
                          const ReadAdapter* like = nullptr) {
  ExportOptions options = to.options;
  for (const std::string& pair : to.metadata) {
    const std::size_t at = pair.find('=');
    if (at == std::string::npos)
      throw error(ErrorCode::bad_argument, concat("--metadata ", pair, ": expected key=value"));
    options.metadata.emplace_back(pair.substr(0, at), pair.substr(at + 1));
  }
  if (like != nullptr)
    for (const MetadataPair& pair : like->metadata) set_default(options.metadata, pair);
  const std::string_view format =
      to.format == "same" ? format_of(like->dialect) : std::string_view(to.format);
  if (like != nullptr && like->is_flattened && format != "kohya")
    throw error(ErrorCode::bad_argument,
                concat(path, ": expected the model's own names for a ", format,
                       " file, got flattened ones, whose dots "
                       "cannot be told from underscores; name the model's checkpoint (--model)"));
  if (like != nullptr && like->dialect == "LyCORIS" && options.prefix.empty()) options.prefix = "lycoris";
  for (LoraSet& set : sets) name_denoiser(set);
  if (format == "kohya") return write_kohya(path, sets, options);
  if (format == "diffusers") return write_diffusers(path, sets, options);
  if (sets.size() != 1)
    throw error(ErrorCode::bad_argument, concat(path, ": expected one component for a PEFT adapter, got ",
                                                sets.size(), "; choose with --component"));
  write_peft(path, sets[0], options);
}

/// One line for what was made of each module that is not exact, and one for all.
inline void print_errors(const std::vector<ConvertedModule>& modules, bool is_verbose) {
  double worst = 0;
  std::string where;
  for (const ConvertedModule& module : modules) {
    if (is_verbose)
      std::cout << cell(module.path, 48) << "rank " << cell(concat(module.kept.rank), 4)
                << (module.is_exact ? "as it was"
                                    : concat("kept ", short_number(100 * module.kept.energy),
                                             " % of the energy, error ", short_number(module.error)))
                << '\n';
    if (module.is_exact || module.error < worst) continue;
    worst = module.error;
    where = module.path;
  }
  std::cout << modules.size() << " modules";
  if (!where.empty()) std::cout << ", largest relative error " << short_number(worst) << " at " << where;
  std::cout << '\n';
}

} // namespace tenon::tools

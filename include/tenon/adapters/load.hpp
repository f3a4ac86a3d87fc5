// SPDX-License-Identifier: Apache-2.0
// load_adapter<Net>(path): maps an adapter of any dialect and finds the slot for each of its tensors. The
// net's own names are the table that is looked up; nothing is guessed from substrings. Everything that does
// not fit is found before anything is attached and reported together. Cost: O(tensors); the values stay in
// the mapping; one read of them if they are checked for NaN.
#pragma once

#include <tenon/adapters/adapter.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/graph/lower.hpp>
#if TENON_HAS_BODIES // the readers of every kind, which nothing else here needs
#include <tenon/adapters/bind.hpp>
#endif

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace tenon {

/// What to do with an adapter that does not fit in full.
enum class OnMismatch : std::uint8_t {
  refuse, ///< throw `load_error{bad_adapter}` with the whole report
  report, ///< load what fits; the rest stands in `Adapter::report()`
};

struct LoadOptions {
  OnMismatch on_mismatch = OnMismatch::refuse;
  Ledger* ledger = nullptr;        ///< where the mapping is entered; the process's if null
  std::string_view dialect{};      ///< "PEFT", "kohya" ... (dialect_table); empty: recognised from the keys
  std::string_view adapter_name{}; ///< of a file with several (`.lora_A.<name>.weight`)
  std::string_view component{};    ///< which part of a pipeline the net is: "denoiser", "text_encoder" ...
  std::string_view expert{};       ///< "high_noise" or "low_noise", of a file for two denoisers
  bool checks_values = true;       ///< for NaN and infinity: one read of the file
  std::optional<DoraStrength> dora_strength{}; ///< empty: as the tool that wrote the file has it
};

/// `load_adapter` below its types. Throws as it does.
[[nodiscard]] TENON_INLINE std::shared_ptr<const AdapterData> load_adapter_data(const Program& program,
                                                                                std::int64_t rank,
                                                                                const std::string& path,
                                                                                const LoadOptions& options);

/// Reads the adapter at `path` for `Net`: a safetensors file, or a folder as PEFT or diffusers saves it. Throws
/// `load_error`: an unreadable file, or, unless told to report only, a file that does not fit in full.
template <class Net, class Kind = Lora>
[[nodiscard]] Adapter<Net, Kind> load_adapter(const std::string& path, const LoadOptions& options = {}) {
  return Adapter<Net, Kind>(load_adapter_data(program_of<Net>(), Kind::rank, path, options));
}

#if TENON_HAS_BODIES
TENON_INLINE std::shared_ptr<const AdapterData> load_adapter_data(const Program& program, std::int64_t rank,
                                                                  const std::string& path,
                                                                  const LoadOptions& options) {
  Ledger& ledger = options.ledger != nullptr ? *options.ledger : process_ledger();
  AdapterFile file = AdapterFile::open(
      path, {.dialect = options.dialect, .adapter_name = options.adapter_name, .ledger = &ledger});
  AdapterTargets targets = targets_of(program);
  std::shared_ptr<const AdapterData> data = bind_adapter(file, targets,
                                                         {.rank = rank,
                                                          .component = options.component,
                                                          .expert = options.expert,
                                                          .checks_values = options.checks_values,
                                                          .dora_strength = options.dora_strength},
                                                         ledger);
  if (options.on_mismatch == OnMismatch::refuse && !data->report.fits())
    throw load_error(ErrorCode::bad_adapter, data->report.text(), {.file = data->report.file});
  return data;
}
#endif

} // namespace tenon

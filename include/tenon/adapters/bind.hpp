// SPDX-License-Identifier: Apache-2.0
// From an adapter's file to what it does to each module of a model: names are looked up among the model's own
// (name_table.hpp), shapes are checked, scales are worked out, and everything that does not fit is reported
// together. Cost: O(tensors); values stay in the mapping but for what must be prepared.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/adapters/adapter_file.hpp>
#include <tenon/adapters/bind_module.hpp>
#include <tenon/adapters/finite_values.hpp>
#include <tenon/adapters/targets.hpp>
#include <tenon/core/compiled.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

struct BindOptions {
  std::int64_t rank = any_rank; ///< of the adapter's type; any other rank is a finding
  std::string_view component{}; ///< of a pipeline's file: only its keys ("denoiser", "text_encoder" ...)
  std::string_view expert{};    ///< of a file for two experts: "high_noise" or "low_noise"
  bool checks_values = true;    ///< for NaN and infinity: one read of the file
  std::optional<DoraStrength> dora_strength{}; ///< empty: as the tool of the dialect
};

class AdapterBinder {
 public:
  AdapterBinder(AdapterFile& file, AdapterTargets& targets, const BindOptions& options, Ledger& ledger)
      : file_(file), targets_(targets), options_(options), ledger_(ledger) {}

  /// Takes the mapping out of the file. Throws as Buffer does; misfits are in the report.
  [[nodiscard]] std::shared_ptr<const AdapterData> bind() {
    auto data = std::make_shared<AdapterData>(AdapterData{.file = file_.take_file()});
    data_ = data.get();
    AdapterReport& report = data->report;
    report.file = data->file.path();
    report.dialect = file_.dialect().name;
    report.findings = file_.findings();
    bound_.assign(targets_.list.size(), nullptr);
    for (const CheckpointTensor* const shared : {file_.vera_a(), file_.vera_b()})
      if (shared != nullptr && options_.checks_values && !check_values(*shared, report))
        shared_is_finite_ = false;
    for (const AdapterModule& module : file_.modules()) {
      if (!is_asked_for(module)) {
        if (left_out_ == nullptr) left_out_ = &module;
      } else if (has_finite_values(module)) {
        bind(module);
      }
    }
    if (report.matched.empty() && report.findings.empty() && left_out_ != nullptr) report_other_part();
    put_in_order(data->factors);
    put_in_order(data->deltas);
    put_in_order(data->biases);
    return data;
  }

 private:
  /// By ascending slot; those of one slot stay in their order.
  template <class Bound>
  void put_in_order(std::vector<Bound>& all) const {
    std::vector<std::size_t> next(targets_.list.size() + 1, 0); // of each slot, where its next one goes
    for (const Bound& bound : all) ++next[static_cast<std::size_t>(bound.slot) + 1];
    for (std::size_t i = 1; i < next.size(); ++i) next[i] += next[i - 1];
    std::vector<Bound> sorted(all.size());
    for (const Bound& bound : all) sorted[next[static_cast<std::size_t>(bound.slot)]++] = bound;
    all.swap(sorted);
  }

  /// A module with NaN in one tensor is not bound at all.
  [[nodiscard]] bool has_finite_values(const AdapterModule& module) {
    if (!options_.checks_values) return true;
    bool is_finite = shared_is_finite_ || !module.has(AdapterPart::vera_lambda_b);
    for (const AdapterModule::Part& part : module.parts)
      if (!check_values(*part.tensor, data_->report)) is_finite = false;
    return is_finite;
  }

  void add(FindingKind kind, const AdapterModule& module, std::string what) {
    data_->report.findings.push_back({kind, std::string(module.key()), std::move(what)});
  }

  /// Of a file for several parts of a pipeline: whether the module is for the one that the net is.
  [[nodiscard]] bool is_asked_for(const AdapterModule& module) const noexcept {
    return is_expert_asked_for(module) &&
           (options_.component.empty() || module.component.empty() || module.component == options_.component);
  }
  [[nodiscard]] bool is_expert_asked_for(const AdapterModule& module) const noexcept {
    return options_.expert.empty() || module.expert.empty() || module.expert == options_.expert;
  }
  /// All modules are for others.
  void report_other_part() {
    if (is_expert_asked_for(*left_out_))
      return add(FindingKind::other_component, *left_out_,
                 concat("expected a module of the ", options_.component, ", got one of the ",
                        left_out_->component, "; the file has none for what was asked for"));
    add(FindingKind::other_component, *left_out_,
        concat("expected a module of the ", options_.expert, " expert, got one of the ", left_out_->expert,
               " expert; the file has none for what was asked for"));
  }
  /// Two parts of a pipeline may give their modules the same names: both would change one slot.
  [[nodiscard]] bool is_of_another_part(const AdapterModule& module, std::span<const NamedModule> named) {
    for (const NamedModule& target : named) {
      const AdapterModule*& before = bound_[static_cast<std::size_t>(target.module)];
      if (before == nullptr) before = &module;
      const bool is_other_expert = before->expert != module.expert;
      if (!is_other_expert && before->component == module.component) continue;
      const auto either = [](std::string_view what, std::string_view one, std::string_view other) {
        return one.empty() || other.empty() ? std::string()
                                            : concat("; choose the ", what, one, " or ", other);
      };
      add(FindingKind::duplicate, module,
          concat("its slot already has ", before->key(),
                 is_other_expert ? either("expert ", before->expert, module.expert)
                                 : either("component ", before->component, module.component)));
      return true;
    }
    return false;
  }

  void bind(const AdapterModule& module) {
    std::span<const NamedModule> named;
    if (file_.is_flattened()) {
      const NameList::Flat flat = targets_.names.find_flattened(module.name);
      if (flat.is_ambiguous)
        return add(FindingKind::ambiguous, module,
                   concat("two modules of the net are written ", module.name, " once dots are underscores"));
      named = flat.modules;
    } else {
      named = targets_.names.find(module.name);
      // a net's own paths may begin as a dialect's prefix does: GPT-2's with `transformer.`
      if (named.empty() && !module.prefix.empty())
        named = targets_.names.find(concat(module.prefix, module.name));
    }
    if (named.empty()) return add(FindingKind::unmatched_key, module, nearest(module));
    const PeftConfig* const config = file_.config(module.component);
    if (config != nullptr && reported_settings_ != config) {
      for (const std::string& setting : config->unsupported)
        data_->report.findings.push_back(
            {FindingKind::unsupported, file_.config_path(), concat(setting, ", which Tenon does not apply")});
      reported_settings_ = config;
    }
    if (const std::string missing = missing_parts(named); !missing.empty())
      return add(FindingKind::unmatched_key, module, missing);
    if (is_of_another_part(module, named)) return;
    for (const NamedModule& one : named) {
      bind_module({.file = file_,
                   .module = module,
                   .config = config,
                   .target = targets_.at(one.module),
                   .path = targets_.name(one.module),
                   .slot = one.module,
                   .name = one,
                   .rank = options_.rank,
                   .dora_strength = options_.dora_strength,
                   .data = *data_,
                   .prepared = PreparedMatrices(ledger_, data_->prepared)});
    }
  }

  /// What a net lacks of a module that is several of its slots together; empty if it has all.
  [[nodiscard]] static std::string missing_parts(std::span<const NamedModule> named) {
    const NamedModule& first = named.front();
    if (!first.is_fused || first.share == NameShare::whole || first.share == NameShare::swapped) return {};
    if (first.slice.size == 0)
      return std::ssize(named) == first.parts
                 ? std::string()
                 : concat("it is for ", first.parts, " projections together, of which the net has ",
                          named.size(), " slots");
    std::int64_t sum = 0;
    for (const NamedModule& part : named) sum += part.slice.size;
    if (sum == first.slice.total) return {};
    return concat("it is for ", first.slice.total, first.share == NameShare::columns ? " inputs" : " outputs",
                  ", of which the net has slots for ", sum);
  }

  [[nodiscard]] std::string nearest(const AdapterModule& module) const {
    const std::string_view best = targets_.names.nearest(module.name, file_.is_flattened());
    std::string what =
        concat("the net has no slot ", module.name, best.empty() ? "" : "; the nearest is ", best);
    if (options_.component.empty() && !module.component.empty())
      what += concat("; the key is for the ", module.component,
                     " of a pipeline: name the component that the net is, to leave the others");
    return what;
  }

  AdapterFile& file_;
  AdapterTargets& targets_;
  const BindOptions& options_;
  Ledger& ledger_;
  AdapterData* data_ = nullptr;
  const PeftConfig* reported_settings_ = nullptr;
  std::vector<const AdapterModule*> bound_{}; ///< by slot: the first module that changes it
  bool shared_is_finite_ = true;
  const AdapterModule* left_out_ = nullptr; ///< the first that is for another part of a pipeline
};

/// What `file` does to `targets`; its report holds everything that does not fit. Takes the mapping out of the
/// file.
[[nodiscard]] TENON_INLINE std::shared_ptr<const AdapterData> bind_adapter(AdapterFile& file,
                                                                           AdapterTargets& targets,
                                                                           const BindOptions& options = {},
                                                                           Ledger& ledger = process_ledger());

#if TENON_HAS_BODIES
TENON_INLINE std::shared_ptr<const AdapterData> bind_adapter(AdapterFile& file, AdapterTargets& targets,
                                                             const BindOptions& options, Ledger& ledger) {
  return AdapterBinder(file, targets, options, ledger).bind();
}
#endif

} // namespace tenon

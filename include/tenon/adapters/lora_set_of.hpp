// SPDX-License-Identifier: Apache-2.0
// An adapter of any kind as plain LoRA in memory. LoRA stays what it is, to the bit; every other change of a weight
// becomes the nearest pair of a rank, with its error stated. Changes that follow from the weight (DoRA, IA3, OFT,
// GLoRA) need the checkpoint that the adapter was bound to. Cost: for LoRA a copy as floats; else that of `to_lora`.
// One thread.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/adapters/delta_of_weight.hpp>
#include <tenon/adapters/extract.hpp>
#include <tenon/adapters/file_targets.hpp>
#include <tenon/adapters/lora_pair.hpp>
#include <tenon/adapters/merged_weight.hpp>
#include <tenon/adapters/terms.hpp>
#include <tenon/adapters/to_lora.hpp>
#include <tenon/core/compiled.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

/// What one module became.
struct ConvertedModule {
  std::string path{};
  bool is_exact = true; ///< it was LoRA; else the rest says what the decomposition left
  KeptRank kept{};
  double error = 0;
};

struct Converted {
  LoraSet set{};
  std::vector<ConvertedModule> modules{}; ///< as in `set`
};

/// delta^T = scale A^T B^T.
[[nodiscard]] inline LoraPair turned(LoraPair pair) {
  LoraPair out{
      .out = pair.in, .in = pair.out, .rank = pair.rank, .scale = pair.scale, .bias = std::move(pair.bias)};
  out.a.resize(pair.b.size());
  out.b.resize(pair.a.size());
  for (std::int64_t k = 0; k < pair.rank; ++k) {
    for (std::int64_t i = 0; i < pair.out; ++i)
      out.a[static_cast<std::size_t>(k * pair.out + i)] = pair.b[static_cast<std::size_t>(i * pair.rank + k)];
    for (std::int64_t j = 0; j < pair.in; ++j)
      out.b[static_cast<std::size_t>(j * pair.rank + k)] = pair.a[static_cast<std::size_t>(k * pair.in + j)];
  }
  return out;
}

/// One conversion at work.
class Conversion {
 public:
  Conversion(const AdapterData& data, const LaidOutTargets& on, const ToLoraOptions& svd)
      : data_(data), on_(on), svd_(svd) {}

  [[nodiscard]] Converted run() {
    for (std::size_t i = 0; i < on_.targets.list.size(); ++i) convert(static_cast<std::int32_t>(i));
    return std::move(out_);
  }

 private:
  template <class Item>
  [[nodiscard]] static std::vector<const Item*> of(std::int32_t slot, const std::vector<Item>& items) {
    std::vector<const Item*> out;
    for (const Item& item : items)
      if (item.slot == slot) out.push_back(&item);
    return out;
  }
  [[noreturn]] void refuse(std::int32_t slot, std::string_view what) const {
    throw error(ErrorCode::unsupported,
                concat(on_.targets.name(slot), ": expected the model's checkpoint, since ", what,
                       " follows from the weight, got none; name it"),
                {.file = data_.file.path(), .layer = on_.targets.name(slot)});
  }

  void convert(std::int32_t slot) {
    const auto factors = of(slot, data_.factors);
    const auto deltas = of(slot, data_.deltas);
    const AdapterTarget& target = on_.targets.at(slot);
    const ModuleLayout& layout = on_.layouts[static_cast<std::size_t>(slot)];
    const std::string& path = on_.targets.name(slot);
    std::vector<float> bias = bias_of(slot);
    if (target.is_vector && !deltas.empty()) {
      add_diff(concat(path, ".weight"), rows_of(slot));
    } else if (!factors.empty() || !deltas.empty()) {
      ConvertedModule report{.path = path};
      LoraModule module{.path = path, .target = layout.target, .kernel = layout.kernel};
      if (deltas.empty()) {
        module.pair = pair_of(factors, target);
        report.kept.rank = module.pair.rank;
      } else {
        MadeLora made = decomposed(slot);
        module.pair = std::move(made.pair);
        report = {path, false, made.kept, made.error};
      }
      if (layout.is_turned) module.pair = turned(std::move(module.pair));
      module.pair.bias = std::move(bias);
      bias.clear();
      out_.set.modules.push_back(std::move(module));
      out_.modules.push_back(std::move(report));
    }
    if (!bias.empty()) add_diff(concat(path, ".bias"), std::move(bias));
  }

  void add_diff(std::string path, std::vector<float> values) {
    const std::int64_t size = std::ssize(values);
    out_.set.diffs.push_back({std::move(path), Tensor({size}, std::move(values))});
  }

  /// The factors themselves; of several, each at its rows, end to end, with the scale in A unless it is one.
  [[nodiscard]] static LoraPair pair_of(const std::vector<const SlotFactors*>& factors,
                                        const AdapterTarget& target) {
    LoraPair out{.out = target.rows, .in = target.cols, .scale = factors[0]->scale};
    bool is_one_scale = true;
    for (const SlotFactors* one : factors) {
      out.rank += one->a.rows;
      is_one_scale = is_one_scale && one->scale == out.scale;
    }
    if (!is_one_scale) out.scale = 1;
    out.a.resize(static_cast<std::size_t>(out.rank * out.in));
    out.b.resize(static_cast<std::size_t>(out.out * out.rank));
    std::int64_t at = 0;
    for (const SlotFactors* one : factors) {
      for (std::int64_t k = 0; k < one->a.rows; ++k) {
        float* const row = out.a.data() + (at + k) * out.in;
        decode(one->a.dtype, one->a.at(k, 0), out.in, row);
        if (!is_one_scale)
          for (std::int64_t j = 0; j < out.in; ++j)
            row[j] = static_cast<float>(one->scale * static_cast<double>(row[j]));
      }
      for (std::int64_t i = 0; i < one->b.rows; ++i) {
        float* const row = out.b.data() + (one->first_row + i) * out.rank + at;
        decode(one->b.dtype, one->b.at(i, 0), one->b.cols, row);
        if (one->row_gain == nullptr && one->rank_gain == nullptr) continue;
        for (std::int64_t k = 0; k < one->b.cols; ++k) { // VeRA's vectors
          const double gain = (one->row_gain != nullptr ? static_cast<double>(one->row_gain[i]) : 1.0) *
                              (one->rank_gain != nullptr ? static_cast<double>(one->rank_gain[k]) : 1.0);
          row[k] = static_cast<float>(gain * static_cast<double>(row[k]));
        }
      }
      at += one->a.rows;
    }
    return out;
  }

  /// The weight, or nothing but its shape; then no change may follow from it.
  [[nodiscard]] kernels::WeightMatrix base_of(std::int32_t slot) const {
    const AdapterTarget& target = on_.targets.at(slot);
    if (target.weight != nullptr) return flat_matrix(target.weight->view);
    for (const SlotDelta* delta : of(slot, data_.deltas))
      if (delta->gains != GainSource::none || delta->term.rotation != nullptr ||
          delta->term.form == kernels::DeltaForm::of_elements || !delta->term.of_weight.empty())
        refuse(slot, adapter_kind_name(delta->kind));
    return {nullptr, DType::f32, target.rows, target.cols, target.cols};
  }
  [[nodiscard]] Ledger& ledger() const { return svd_.ledger != nullptr ? *svd_.ledger : process_ledger(); }

  [[nodiscard]] MadeLora decomposed(std::int32_t slot) const {
    const kernels::WeightMatrix base = base_of(slot);
    const DeltaRows rows(slot, base, data_, ledger());
    return to_lora(row_source(base.rows, base.cols, rows), svd_);
  }
  [[nodiscard]] std::vector<float> rows_of(std::int32_t slot) const {
    const kernels::WeightMatrix base = base_of(slot);
    std::vector<float> out(static_cast<std::size_t>(base.rows * base.cols));
    DeltaRows(slot, base, data_, ledger())(0, base.rows, out.data());
    return out;
  }

  /// What the adapter adds to the module's bias; empty if nothing.
  [[nodiscard]] std::vector<float> bias_of(std::int32_t slot) const {
    const AdapterTarget& target = on_.targets.at(slot);
    kernels::WeightVector own;
    if (target.bias_tensor != nullptr) own = flat_vector(target.bias_tensor->view);
    const auto biases = of(slot, data_.biases);
    if (biases.empty()) return {};
    std::vector<float> out(static_cast<std::size_t>(std::max(target.rows, target.bias)));
    for (const SlotBias* bias : biases) {
      if (bias->action != kernels::BiasAction::add && own.empty()) refuse(slot, "a whole bias");
      if (bias->of_weight != nullptr && target.weight == nullptr) refuse(slot, "GLoRA");
      const kernels::WeightMatrix weight =
          target.weight == nullptr ? kernels::WeightMatrix{} : flat_matrix(target.weight->view);
      add_slot_bias(*bias, 1, weight, own, out, ledger());
    }
    return out;
  }

  const AdapterData& data_;
  const LaidOutTargets& on_;
  const ToLoraOptions& svd_;
  Converted out_{};
};

/// What `data` does to the modules that it was bound to, as plain LoRA; `svd` for what is not LoRA. Throws
/// `error{unsupported}` where a change needs a weight that is not there, and what `to_lora` throws.
[[nodiscard]] TENON_INLINE Converted lora_set_of(const AdapterData& data, const LaidOutTargets& on,
                                                 const ToLoraOptions& svd);

#if TENON_HAS_MAKING_BODIES
TENON_INLINE Converted lora_set_of(const AdapterData& data, const LaidOutTargets& on,
                                   const ToLoraOptions& svd) {
  return Conversion(data, on, svd).run();
}
#endif

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// One module's weight with adapters merged into it, some rows at a time: what writes merged checkpoints and
// converts adapters, without a model type. Cost: as a merge; holds the gains of its terms and scratch for
// one thread, in the ledger.
#pragma once

#include <tenon/adapters/targets.hpp>
#include <tenon/adapters/terms.hpp>
#include <tenon/kernels/merge_deltas.hpp>
#include <tenon/kernels/weight_norms.hpp>
#include <tenon/memory/buffer.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace tenon {

/// An adapter and how strongly it is to act.
struct AdapterAt {
  const AdapterData* data = nullptr;
  double strength = 1;
};

class MergedWeight {
 public:
  /// Of module `slot` of the targets that the adapters were bound to, whose weight is `base`. Throws as Buffer
  /// does.
  MergedWeight(std::int32_t slot, kernels::WeightMatrix base, std::span<const AdapterAt> adapters,
               Ledger& ledger)
      : base_(base) {
    std::int64_t floats = 0;
    visit_deltas(slot, adapters,
                 [&](const SlotDelta& delta, double) { floats += delta.gain_count(base.rows, base.cols); });
    const std::int64_t scratch = std::max(kernels::merge_deltas_scratch_bytes(base.rows, base.cols),
                                          kernels::weight_norms_scratch_bytes(base.rows, base.cols));
    scratch_ =
        Buffer(ledger, Category::scratch, std::max(scratch, kernels::merge_scratch_bytes), "merge a weight");
    gains_ = Buffer(ledger, Category::adapter, floats * static_cast<std::int64_t>(sizeof(float)),
                    "merge a weight");
    for (const AdapterAt& adapter : adapters)
      for (const SlotFactors& factors : adapter.data->factors)
        if (factors.slot == slot) terms_.push_back(low_rank_term(factors, adapter.strength));
    float* u = reinterpret_cast<float*>(gains_.data());
    visit_deltas(slot, adapters, [&](const SlotDelta& delta, double strength) {
      deltas_.push_back(delta_term(delta, strength, base_, u, room()));
      u += delta.gain_count(base.rows, base.cols);
    });
  }

  /// Whether an adapter changes it at all.
  [[nodiscard]] bool is_changed() const noexcept { return !terms_.empty() || !deltas_.empty(); }

  /// out [count, cols], contiguous and of the base's dtype: rows of the merged weight from `first` on.
  void write_rows(std::int64_t first, std::int64_t count, std::byte* out) {
    kernels::merge_deltas(base_, terms_, deltas_, count, out, room(), kernels::vector_kernels(),
                          {.first_row = first});
  }

 private:
  template <class F>
  static void visit_deltas(std::int32_t slot, std::span<const AdapterAt> adapters, F f) {
    for (const AdapterAt& adapter : adapters)
      for (const SlotDelta& delta : adapter.data->deltas)
        if (delta.slot == slot) f(delta, adapter.strength);
  }
  [[nodiscard]] kernels::Scratch room() noexcept {
    return kernels::Scratch({scratch_.data(), static_cast<std::size_t>(scratch_.bytes())});
  }

  kernels::WeightMatrix base_;
  Buffer scratch_{};
  Buffer gains_{};
  std::vector<kernels::LowRankTerm> terms_{};
  std::vector<kernels::DeltaTerm> deltas_{};
};

/// row [out] += what `own` changes of a bias, for a module's pristine weight and bias. Where it follows from the
/// weight that is read, and holds a row of floats and scratch. Throws as Buffer does.
inline void add_slot_bias(const SlotBias& own, double strength, const kernels::WeightMatrix& weight,
                          kernels::WeightVector bias, std::span<float> row, Ledger& ledger) {
  Buffer made{};
  Buffer scratch{};
  if (own.of_weight != nullptr) {
    made = Buffer(ledger, Category::adapter, own.made_count() * static_cast<std::int64_t>(sizeof(float)),
                  "merge a bias");
    scratch = Buffer(ledger, Category::scratch, kernels::multiply_scratch_bytes(1, own.rows, weight.cols),
                     "merge a bias");
  }
  const kernels::Scratch room({scratch.data(), static_cast<std::size_t>(scratch.bytes())});
  kernels::add_bias_term(bias_term(own, strength, weight, reinterpret_cast<float*>(made.data()), room), bias,
                         row);
}

/// A module's bias with adapters merged into it, as floats [size]; zeros where the module has none. Returns
/// whether an adapter changes it. Throws as Buffer does.
[[nodiscard]] inline bool merge_bias(std::int32_t slot, const kernels::WeightMatrix& weight,
                                     kernels::WeightVector bias, std::span<const AdapterAt> adapters,
                                     std::span<float> out, Ledger& ledger) {
  if (bias.empty())
    std::fill(out.begin(), out.end(), 0.0f);
  else
    decode(bias.dtype, bias.data, std::ssize(out), out.data());
  bool is_changed = false;
  for (const AdapterAt& adapter : adapters)
    for (const SlotBias& own : adapter.data->biases)
      if (own.slot == slot) {
        add_slot_bias(own, adapter.strength, weight, bias, out, ledger);
        is_changed = true;
      }
  return is_changed;
}

} // namespace tenon

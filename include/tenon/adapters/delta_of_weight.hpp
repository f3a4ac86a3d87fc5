// SPDX-License-Identifier: Apache-2.0
// What an adapter of any kind changes of one module's weight, as floats, some rows at a time. Cost: that of the terms
// (kernels/delta_rows.hpp); holds the gains of its terms and scratch for one thread, in the ledger.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/adapters/terms.hpp>
#include <tenon/kernels/delta_rows.hpp>
#include <tenon/kernels/merge_deltas.hpp>
#include <tenon/kernels/weight_norms.hpp>
#include <tenon/memory/buffer.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace tenon {

/// Rows of the change of one module's weight at strength 1, as floats; they begin as zeros.
class DeltaRows {
 public:
  /// `base`: the weight, or its shape alone where no change follows from it. Throws as Buffer does.
  DeltaRows(std::int32_t slot, kernels::WeightMatrix base, const AdapterData& data, Ledger& ledger)
      : base_(base) {
    std::int64_t floats = 0;
    for (const SlotDelta& delta : data.deltas)
      if (delta.slot == slot) floats += delta.gain_count(base.rows, base.cols);
    const std::int64_t scratch = std::max(kernels::merge_deltas_scratch_bytes(base.rows, base.cols),
                                          kernels::weight_norms_scratch_bytes(base.rows, base.cols));
    scratch_ = Buffer(ledger, Category::scratch, scratch, "making a delta");
    gains_ = Buffer(ledger, Category::adapter, floats * static_cast<std::int64_t>(sizeof(float)),
                    "making a delta");
    for (const SlotFactors& factors : data.factors)
      if (factors.slot == slot) terms_.push_back(low_rank_term(factors, 1));
    float* u = reinterpret_cast<float*>(gains_.data());
    for (const SlotDelta& delta : data.deltas) {
      if (delta.slot != slot) continue;
      deltas_.push_back(delta_term(delta, 1, base_, u, room()));
      u += delta.gain_count(base.rows, base.cols);
    }
  }

  void operator()(std::int64_t first, std::int64_t count, float* out) const {
    const kernels::VectorKernels& vectors = kernels::vector_kernels();
    for (std::int64_t i = 0; i < count; i += kernels::delta_strip_rows) {
      const kernels::Matrix strip{out + i * base_.cols, std::min(kernels::delta_strip_rows, count - i),
                                  base_.cols, base_.cols};
      std::fill_n(strip.data, strip.rows * strip.cols, 0.0f);
      kernels::add_low_rank_rows(vectors, terms_, first + i, strip, room());
      for (const kernels::DeltaTerm& term : deltas_)
        kernels::add_delta_rows(term, base_, first + i, strip, room(), vectors);
    }
  }

 private:
  [[nodiscard]] kernels::Scratch room() const noexcept {
    return kernels::Scratch({scratch_.data(), static_cast<std::size_t>(scratch_.bytes())});
  }

  kernels::WeightMatrix base_;
  mutable Buffer scratch_{}; // dirtied, never read back
  Buffer gains_{};
  std::vector<kernels::LowRankTerm> terms_{};
  std::vector<kernels::DeltaTerm> deltas_{};
};

} // namespace tenon

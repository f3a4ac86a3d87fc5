// SPDX-License-Identifier: Apache-2.0
// Biases on a device: the stored bias with what adapters do to it (kernels/bias_term.hpp), made for each pass. A norm adds
// it; every row of a product's y begins as it, and the product is added to that. Cost: out operations a term, and for a
// product one write of y.
#pragma once

#include <tenon/gpu/queue.hpp>
#include <tenon/gpu/row_col.hpp>
#include <tenon/gpu/scratch.hpp>
#include <tenon/gpu/storage.hpp>
#include <tenon/graph/step.hpp>
#include <tenon/kernels/bias_term.hpp>
#include <tenon/kernels/matrix.hpp>

#include <cstddef>
#include <cstdint>

namespace tenon::gpu {

template <class Storage>
struct FillRows {
  StoredPointer<Storage> values; ///< [cols]
  float* y;
  std::int64_t cols;
  std::int64_t stride;

  TENON_HD void operator()(std::int64_t i) const {
    const RowCol at = row_col(i, cols);
    y[at.row * stride + at.col] = values[at.col];
  }
};

/// Every row of y = `values` [y.cols]. Throws `error{wrong_dtype}`.
inline void fill_rows(Queue& queue, kernels::WeightVector values, kernels::Matrix y) {
  with_storage(values.dtype, [&]<class Storage>(Storage) {
    for_each_index(queue, y.rows * y.cols,
                   FillRows<Storage>{StoredPointer<Storage>(values.data), y.data, y.cols, y.stride});
  });
}

/// row[first + i] += what a BiasTerm changes there.
template <class Storage>
struct AddBiasTerm {
  StoredPointer<Storage> values;
  const float* bias; ///< [out], the module's own
  float* row;        ///< [out]
  std::int64_t first;
  float scale;
  kernels::BiasAction action;

  TENON_HD void operator()(std::int64_t i) const {
    const float own = bias[first + i];
    float change = values[i];
    if (action == kernels::BiasAction::replace) change -= own;
    if (action == kernels::BiasAction::scale_by) change = (change - 1.0f) * own;
    if (action == kernels::BiasAction::grow_by) change *= own;
    row[first + i] += scale * change;
  }
};

/// Scratch of `bias_with_terms` and `begin_with_bias` for `out` outputs.
[[nodiscard]] constexpr std::int64_t bias_scratch_bytes(std::int64_t out) noexcept {
  return DeviceScratch::rounded(2 * out * 4);
}

/// bias [out] with the changes of `terms`, floats that lie in `scratch`. The list's nodes are the host's, what they view the
/// device's. Throws `error{wrong_dtype}`.
[[nodiscard]] inline kernels::WeightVector bias_with_terms(Queue& queue, kernels::WeightVector bias,
                                                           const AttachedList<kernels::BiasTerm>& terms,
                                                           std::int64_t out, DeviceScratch scratch) {
  float* const own = scratch.take<float>(2 * out);
  float* const row = own + out;
  if (bias.empty())
    queue.clear(reinterpret_cast<std::byte*>(own), 2 * out * 4);
  else
    fill_rows(queue, bias, {own, 2, out, out}); // both at once
  for (const SideBias* side = terms.first; side != nullptr; side = side->next) {
    const kernels::BiasTerm& term = side->term;
    with_storage(term.values.dtype, [&]<class Storage>(Storage) {
      for_each_index(queue, term.values.size,
                     AddBiasTerm<Storage>{StoredPointer<Storage>(term.values.data), own, row, term.first,
                                          term.scale, term.action});
    });
  }
  return {reinterpret_cast<const std::byte*>(row), DType::f32, out};
}

/// y [rows, out] = bias [out] with the changes of `terms`, in every row. False, with y unchanged, where there is neither.
/// Throws as `bias_with_terms`.
inline bool begin_with_bias(Queue& queue, kernels::WeightVector bias,
                            const AttachedList<kernels::BiasTerm>* terms, kernels::Matrix y,
                            DeviceScratch scratch) {
  const bool has_terms = terms != nullptr && !terms->empty();
  if (!has_terms && bias.empty()) return false;
  if (!has_terms) {
    fill_rows(queue, bias, y);
    return true;
  }
  fill_rows(queue, bias_with_terms(queue, bias, *terms, y.cols, scratch), y);
  return true;
}

} // namespace tenon::gpu

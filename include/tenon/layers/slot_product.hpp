// SPDX-License-Identifier: Apache-2.0
// y = x W^T + b with all that is attached to the weight's slot: what Linear does with its input's rows, and a
// convolution with those it gathers. Overlays stand in for the weight; low-rank terms, changes of other kinds and
// of the bias come beside it. Threads share each product; nothing here allocates.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/graph/step.hpp>
#include <tenon/kernels/bias_term.hpp>
#include <tenon/kernels/delta_side.hpp>
#include <tenon/kernels/linear.hpp>
#include <tenon/kernels/low_rank.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

namespace tenon {

/// y += the slot's side terms. They are taken from the list in batches, in the order of attachment.
inline void add_side_terms(const ActiveSlot& slot, kernels::ConstMatrix x, kernels::Matrix y,
                           const kernels::Workers& workers) {
  constexpr std::size_t batch = 16;
  std::array<kernels::LowRankTerm, batch> terms;
  for (const SideTerm* side = slot.terms.first; side != nullptr;) {
    std::size_t count = 0;
    for (; side != nullptr && count < batch; side = side->next) terms[count++] = side->term;
    kernels::low_rank_add(x, std::span<const kernels::LowRankTerm>(terms.data(), count), y, workers);
  }
}

/// y += what other kinds change. The first may take y for the base's product, where the slot computes with
/// its pristine weight.
inline void add_side_deltas(const ActiveSlot& slot, kernels::ConstMatrix x, kernels::Matrix y,
                            const kernels::Workers& workers) {
  const kernels::ConstMatrix product = y;
  const kernels::ConstMatrix* given = slot.is_pristine ? &product : nullptr;
  for (const SideDelta* side = slot.deltas.first; side != nullptr; side = side->next) {
    kernels::delta_add(x, weight_matrix(slot.base), side->term, y, workers, given);
    given = nullptr;
  }
}

/// The row that is added to every row of the product: the bias and what is attached to it.
inline void fill_bias_row(const ActiveSlot& slot, kernels::WeightVector bias, std::span<float> row) noexcept {
  if (bias.empty())
    std::fill(row.begin(), row.end(), 0.0f);
  else
    decode(bias.dtype, bias.data, std::ssize(row), row.data());
  for (const SideBias* side = slot.biases.first; side != nullptr; side = side->next)
    kernels::add_bias_term(side->term, bias, row);
}

/// A slot with more than LoRA: the bias comes last, so that a change of the weight sees the bare product.
inline void slot_product_with_deltas(const StepContext& context, kernels::ConstMatrix x, kernels::Matrix y,
                                     kernels::Workers workers) {
  const ActiveSlot& slot = *context.slot;
  const std::span<float> bias = workers.take<float>(y.cols);
  fill_bias_row(slot, weight_vector(context.weights[1]), bias);
  kernels::linear(x, weight_matrix(slot.weight), {}, y, workers, context.products);
  add_side_deltas(slot, x, y, workers);
  add_side_terms(slot, x, y, workers);
  for (std::int64_t i = 0; i < y.rows; ++i)
    for (std::int64_t j = 0; j < y.cols; ++j) y.row(i)[j] += bias[static_cast<std::size_t>(j)];
}

/// y [rows, out] = x [rows, in] W^T + b for a step with weights {W, b}; W is the slot's where it has one.
/// `workers` is the context's, without what the caller took of its scratch.
template <bool HasSlot>
void slot_product(const StepContext& context, kernels::ConstMatrix x, kernels::Matrix y,
                  const kernels::Workers& workers) {
  const kernels::WeightVector bias = weight_vector(context.weights[1]);
  if constexpr (HasSlot) {
    const ActiveSlot& slot = *context.slot;
    if (!slot.deltas.empty() || !slot.biases.empty()) return slot_product_with_deltas(context, x, y, workers);
    kernels::linear(x, weight_matrix(slot.weight), bias, y, workers, context.products);
    add_side_terms(slot, x, y, workers);
  } else {
    kernels::linear(x, weight_matrix(context.weights[0]), bias, y, workers, context.products);
  }
}

#if !TENON_HAS_BODIES
extern template void slot_product<true>(const StepContext&, kernels::ConstMatrix, kernels::Matrix,
                                        const kernels::Workers&);
extern template void slot_product<false>(const StepContext&, kernels::ConstMatrix, kernels::Matrix,
                                         const kernels::Workers&);
#elif defined(TENON_COMPILED)
template void slot_product<true>(const StepContext&, kernels::ConstMatrix, kernels::Matrix,
                                 const kernels::Workers&);
template void slot_product<false>(const StepContext&, kernels::ConstMatrix, kernels::Matrix,
                                  const kernels::Workers&);
#endif

/// Scratch of `slot_product`, a thread. Grows with each of the dimensions.
template <bool HasSlot>
[[nodiscard]] constexpr std::int64_t slot_product_scratch_bytes(std::int64_t rows, std::int64_t out,
                                                                std::int64_t in, bool has_deltas) noexcept {
  const std::int64_t base = kernels::linear_scratch_bytes(rows, out, in);
  if constexpr (!HasSlot) return base;
  const std::int64_t plain = std::max(base, kernels::low_rank_scratch_bytes(rows, out, in));
  if (!has_deltas) return plain;
  return kernels::scratch_bytes<float>(out) +
         std::max(plain, kernels::delta_side_scratch_bytes(rows, out, in));
}

} // namespace tenon

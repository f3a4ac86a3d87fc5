// SPDX-License-Identifier: Apache-2.0
// y = x W^T + b with all that is attached to the weight's slot, on a device: what Linear does with its input's rows, and
// a convolution with those it gathers. Its host twin is layers/slot_product.hpp; other kinds than LoRA come to a device
// merged.
#pragma once

#include <tenon/gpu/bias_row.hpp>
#include <tenon/gpu/device_run.hpp>
#include <tenon/gpu/products.hpp>
#include <tenon/gpu/scratch.hpp>
#include <tenon/gpu/side_terms.hpp>
#include <tenon/graph/step.hpp>
#include <tenon/kernels/matrix.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>

namespace tenon::gpu {

/// Scratch of `slot_product` for x [rows, in], w [out, in]. Grows with each of the dimensions.
[[nodiscard]] constexpr std::int64_t slot_product_scratch_bytes(std::int64_t rows, std::int64_t out,
                                                                std::int64_t in) noexcept {
  // one after the other over the same bytes
  return std::max(
      {bias_scratch_bytes(out), product_scratch_bytes(rows, out, in), side_scratch_bytes(rows, out, in)});
}

/// y [rows, out] = x [rows, in] W^T + b for a step with weights {W, b}; W is the slot's where it has one. `scratch` is
/// what the caller left of the run's. Precondition: y overlaps nothing else. Throws `error{device_failed}`.
inline void slot_product(const StepContext& context, kernels::ConstMatrix x, kernels::Matrix y,
                         DeviceScratch scratch) {
  if (y.rows == 0 || y.cols == 0) return;
  const ActiveSlot* const slot = context.slot;
  assert((slot == nullptr || slot->deltas.empty()) && "other kinds than LoRA come to a device merged");
  Queue& queue = context.device->queue;
  Products& products = context.device->products;
  const kernels::WeightMatrix w = weight_matrix(slot == nullptr ? context.weights[0] : slot->weight);
  const bool has_bias = begin_with_bias(queue, weight_vector(context.weights[1]),
                                        slot == nullptr ? nullptr : &slot->biases, y, scratch);
  products.multiply(queue, x, w, y, has_bias ? 1.0f : 0.0f, scratch.rest());
  if (slot != nullptr) add_side_terms(queue, products, slot->terms, x, y, scratch);
}

} // namespace tenon::gpu

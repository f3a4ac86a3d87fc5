// SPDX-License-Identifier: Apache-2.0
// Another product in the place of the session's usual one: another library's, or one that rounds
// (bf16_products.hpp). A session that was given one asks it first; what it does not take (another element type, a
// shape) is computed as usual. Side paths and merges are always Tenon's.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/workers.hpp>

#include <string_view>

namespace tenon::kernels {

struct ProductBackend {
  std::string_view name{};
  /// y [rows, out] += x [rows, in] w [out, in]^T on the threads of `workers`, whose scratch is `linear_scratch_bytes`.
  /// False, with y unchanged, for operands that it does not take.
  bool (*add_product)(ConstMatrix x, WeightMatrix w, Matrix y, Workers workers) noexcept = nullptr;
};

} // namespace tenon::kernels

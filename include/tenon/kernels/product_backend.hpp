// SPDX-License-Identifier: Apache-2.0
// Another library's product in the place of Tenon's own. A session that was given one asks it first; what it
// does not take (another element type, a shape) runs on Tenon's kernels. Side paths and merges are always
// Tenon's.
#pragma once

#include <tenon/kernels/matrix.hpp>

#include <string_view>

namespace tenon::kernels {

struct ProductBackend {
  std::string_view name{};
  /// y [rows, out] += x [rows, in] w [out, in]^T on so many threads. False, with y unchanged, for operands
  /// that it does not take.
  bool (*add_product)(ConstMatrix x, WeightMatrix w, Matrix y, int threads) noexcept = nullptr;
};

} // namespace tenon::kernels

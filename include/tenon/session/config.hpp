// SPDX-License-Identifier: Apache-2.0
// Compile-time configuration of a model: one structural value, given as a template argument.
//   constexpr tn::Config small{.weights = tn::bf16, .budget = 512 * tn::MiB};
//   auto model = tn::open<Net, small>("model.safetensors");
#pragma once

#include <tenon/weights/dtype.hpp>

#include <cstdint>

namespace tenon {

/// The element type that all weights must have, or `any_dtype`.
struct WeightsDType {
  DType dtype = DType::f32;
  bool any = true;

  constexpr WeightsDType() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): `.weights = tn::bf16` must read as an assignment
  constexpr WeightsDType(DType only) : dtype(only), any(false) {}
};
inline constexpr WeightsDType any_dtype{};

struct Config {
  /// What the checkpoint must hold; another type is refused at `open`.
  WeightsDType weights = any_dtype;
  /// Bytes that the model's ledger may hold beside mapped base weights; negative: no limit. A model with a
  /// budget has a ledger of its own.
  std::int64_t budget = -1;
};

/// The mandates of a configuration; a Model derives from it.
template <Config C>
struct ConfigMandates {
  static_assert(C.weights.any || is_weight_dtype(C.weights.dtype),
                "tenon::Config: weights must be f32, f16, bf16 or any_dtype");
  static_assert(C.budget != 0,
                "tenon::Config: a budget of 0 bytes lets no session begin; leave it out for no limit");
};

} // namespace tenon

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
  constexpr WeightsDType(DType given, bool is_any)
      : dtype(given), any(is_any) {} // nvcc writes values by members
};
inline constexpr WeightsDType any_dtype{};

/// Where a model's weights lie and its sessions compute.
enum class MemorySpace : std::uint8_t {
  host,
  device, ///< a GPU, or what stands in for one: needs <tenon/gpu.hpp>
};
inline constexpr MemorySpace device = MemorySpace::device;

struct Config {
  /// What the checkpoint must hold; another type is refused at `open`.
  WeightsDType weights = any_dtype;
  /// The type in which products are accumulated and activations are kept. Only f32, whatever the weights are.
  DType accumulate = DType::f32;
  /// Bytes that the model's ledger may hold beside mapped base weights; negative: no limit. A model with a
  /// budget has a ledger of its own.
  std::int64_t budget = -1;
  /// Where it is all done. Programs are the same for each.
  MemorySpace memory = MemorySpace::host;
  /// The same for the device's memory, base weights included.
  std::int64_t device_budget = -1;
};

/// What is wrong with a configuration's element types: the first fault alone, so that a compiler says one sentence.
enum class ConfigFault : std::uint8_t { none, weights, narrower_accumulate, accumulate };

[[nodiscard]] constexpr ConfigFault element_type_fault(const Config& config) noexcept {
  if (!config.weights.any && !is_weight_dtype(config.weights.dtype)) return ConfigFault::weights;
  if (config.accumulate == DType::f32) return ConfigFault::none;
  if (!config.weights.any && dtype_bytes(config.accumulate) < dtype_bytes(config.weights.dtype))
    return ConfigFault::narrower_accumulate;
  return ConfigFault::accumulate;
}

/// The mandates of a configuration; a Model derives from it.
template <Config C>
struct ConfigMandates {
  static_assert(element_type_fault(C) != ConfigFault::weights,
                "tenon::Config: weights must be f32, f16, bf16 or any_dtype");
  static_assert(element_type_fault(C) != ConfigFault::narrower_accumulate,
                "tenon::Config: accumulate must be f32; a type narrower than the weights' would lose digits "
                "that the checkpoint has");
  static_assert(
      element_type_fault(C) != ConfigFault::accumulate,
      "tenon::Config: accumulate must be f32; products are accumulated, and activations kept, in no "
      "other type, whatever the weights are");
  static_assert(C.budget != 0 && C.device_budget != 0,
                "tenon::Config: a budget of 0 bytes lets no session begin; leave it out for no limit");
  static_assert(C.memory == device || C.device_budget < 0,
                "tenon::Config: a budget for a device needs .memory = tn::device");
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// What a device step reads beside its wires: its weight (the base's or an overlay's), small vectors of any stored type,
// and the place where it says that a value cannot be taken.
#pragma once

#include <tenon/gpu/device_run.hpp>
#include <tenon/gpu/storage.hpp>

#include <cstddef>
#include <cstdint>

#if !defined(__CUDA_ARCH__)
#include <atomic>
#endif

namespace tenon::gpu {

/// A small stored vector that may be absent. Its type is known at run time: a branch that all threads take alike costs less
/// than a functor for each pair of types.
struct StoredVector {
  const std::byte* data = nullptr;
  DType dtype = DType::f32;

  StoredVector() = default;
  /// Throws `error{wrong_dtype}` where a device does not read `view`'s type.
  explicit StoredVector(const TensorView& view) : StoredVector(view.data, view.dtype) {}
  StoredVector(const std::byte* bytes, DType type) : data(bytes), dtype(type) {
    if (data != nullptr) with_storage(type, [](auto) {});
  }

  TENON_HD float value(std::int64_t i, float absent) const { return data == nullptr ? absent : (*this)[i]; }
  /// Precondition: it is not absent.
  TENON_HD float operator[](std::int64_t i) const {
    if (dtype == DType::f32) return reinterpret_cast<const float*>(data)[i];
    const std::uint16_t bits = reinterpret_cast<const std::uint16_t*>(data)[i];
    return dtype == DType::f16 ? StoredF16::value(bits) : StoredBf16::value(bits);
  }
};

/// The step's weight `index`; none where it declared fewer.
[[nodiscard]] inline TensorView weight_at(const StepContext& context, std::size_t index) {
  return index < context.weights.size() ? context.weights[index] : TensorView{};
}

/// What a step computes beside its slot's weight.
enum class SideTerms : std::uint8_t { none, low_rank, biases };

/// The step's first weight, or what its slot has in its place. Throws `error{unsupported}` where something is attached beside
/// it that this step does not compute: all but what it takes.
[[nodiscard]] inline TensorView slot_weight(const StepContext& context, SideTerms takes = SideTerms::none) {
  if (context.slot == nullptr) return weight_at(context, 0);
  const ActiveSlot& slot = *context.slot;
  if (!slot.deltas.empty() || (takes != SideTerms::low_rank && !slot.terms.empty()) ||
      (takes != SideTerms::biases && !slot.biases.empty()))
    throw error(ErrorCode::unsupported,
                "on a device: this layer's step computes nothing beside its weight but LoRA of an embedding "
                "and a norm's bias; attach merged");
  return slot.weight;
}

/// Says that step `number` met a value it cannot take; what was said first stays.
TENON_HD inline void report_fault(std::int32_t* fault, std::int32_t number) {
#if defined(__CUDA_ARCH__)
  atomicCAS(fault, 0, number + 1);
#else
  std::int32_t none = 0;
  std::atomic_ref<std::int32_t>(*fault).compare_exchange_strong(none, number + 1, std::memory_order_relaxed);
#endif
}

} // namespace tenon::gpu

// SPDX-License-Identifier: Apache-2.0
// What a layer is at run time: a function over dynamic views. Nothing below the lowering sees a layer's type;
// a user's own layer lowers to a step like these. A step allocates nothing: its temporaries are wires the
// plan gave it, its scratch is the session's.
#pragma once

#include <tenon/graph/shape.hpp>
#include <tenon/graph/slot.hpp>
#include <tenon/kernels/bias_term.hpp>
#include <tenon/kernels/delta_term.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/product_backend.hpp>
#include <tenon/kernels/workers.hpp>
#include <tenon/weights/tensor_view.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon {

inline constexpr std::size_t max_step_inputs = 4;
inline constexpr std::size_t max_step_weights = 4;
inline constexpr std::size_t max_step_temporaries = 4;

/// A wire during a call: row-major, contiguous, extents known.
struct WireView {
  std::byte* data = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  std::array<std::int64_t, max_wire_rank> extents{};

  [[nodiscard]] std::int64_t extent(int axis) const noexcept {
    return extents[static_cast<std::size_t>(axis)];
  }
  [[nodiscard]] std::int64_t width() const noexcept { return rank == 0 ? 1 : extent(rank - 1); }
  /// Product of all extents but the last.
  [[nodiscard]] std::int64_t rows() const noexcept {
    std::int64_t n = 1;
    for (int axis = 0; axis + 1 < rank; ++axis) n *= extent(axis);
    return n;
  }
  [[nodiscard]] std::int64_t size() const noexcept { return rows() * width(); }
  [[nodiscard]] std::int64_t bytes() const noexcept { return size() * dtype_bytes(dtype); }

  /// Precondition: dtype is F32 (the graph has checked it).
  [[nodiscard]] std::span<float> values() const noexcept {
    return {reinterpret_cast<float*>(data), static_cast<std::size_t>(size())};
  }
  /// Precondition: dtype is I32.
  [[nodiscard]] std::span<const std::int32_t> ids() const noexcept {
    return {reinterpret_cast<const std::int32_t*>(data), static_cast<std::size_t>(size())};
  }
  /// All but the last dimension as rows. Precondition: dtype is F32.
  [[nodiscard]] kernels::Matrix matrix() const noexcept {
    return {reinterpret_cast<float*>(data), rows(), width(), width()};
  }
  [[nodiscard]] kernels::ConstMatrix const_matrix() const noexcept {
    return {reinterpret_cast<const float*>(data), rows(), width(), width()};
  }
};

/// Something attached beside a slot's weight; an element of one of the slot's lists, in the order of
/// attachment.
template <class Term>
struct Attached {
  Term term{};
  Attached* previous = nullptr;
  Attached* next = nullptr;
};
template <class Term>
struct AttachedList {
  Attached<Term>* first = nullptr;
  Attached<Term>* last = nullptr;

  [[nodiscard]] bool empty() const noexcept { return first == nullptr; }
  void add(Attached<Term>& node) noexcept {
    node.previous = last;
    node.next = nullptr;
    (last != nullptr ? last->next : first) = &node;
    last = &node;
  }
  void remove(Attached<Term>& node) noexcept {
    (node.previous != nullptr ? node.previous->next : first) = node.next;
    (node.next != nullptr ? node.next->previous : last) = node.previous;
  }
};
using SideTerm = Attached<kernels::LowRankTerm>;
using SideDelta = Attached<kernels::DeltaTerm>;
using SideBias = Attached<kernels::BiasTerm>;

/// What a slot computes with now: a weight (the base's bytes or an overlay's) and what is beside it.
struct ActiveSlot {
  TensorView weight{};
  TensorView base{};       ///< the pristine weight, from which other kinds than LoRA take their change
  bool is_pristine = true; ///< `weight` has the values of `base`
  AttachedList<kernels::LowRankTerm> terms{};
  AttachedList<kernels::DeltaTerm> deltas{};
  AttachedList<kernels::BiasTerm> biases{};
};

/// A layer's constants, set at lowering.
struct StepParams {
  std::array<std::int64_t, 6> integers{};
  std::array<float, 6> reals{};
};

/// What a step kept from earlier calls: `sequences` times room for `capacity` tokens of `width` floats.
struct StateView {
  float* data = nullptr; ///< [sequences, capacity, width]; null: nothing is kept
  std::int64_t sequences = 0;
  std::int64_t capacity = 0;
  std::int64_t width = 0;

  [[nodiscard]] constexpr float* row(std::int64_t sequence, std::int64_t token) const noexcept {
    return data + (sequence * capacity + token) * width;
  }
};

struct DeviceRun; // gpu/device_run.hpp

/// All that a step's function gets. Spans are as long as the step declared; absent weights have no data.
struct StepContext {
  std::span<const WireView> inputs{};
  WireView output{};
  std::span<const WireView> temporaries{};
  std::span<const TensorView> weights{};
  const ActiveSlot* slot = nullptr; ///< null for a step without a slot
  StateView state{};                ///< of a step that has one, in a call with a KvCache
  std::int64_t past = 0;            ///< tokens of each sequence that earlier calls had
  std::int64_t capacity = 0;        ///< for scratch: the most tokens that a KvCache may hold
  StepParams params{};
  const kernels::ProductBackend* products = nullptr; ///< null: Tenon's own
  kernels::Workers workers{};                        ///< the session's threads, and scratch for each
  bool has_deltas = false;                           ///< for scratch: other kinds than LoRA may be attached
  DeviceRun* device = nullptr;                       ///< of a step that runs on a device
  std::int32_t number = 0;                           ///< of the step in its program
};

/// Computes the output. May throw `tenon::error` for values only a call can know (an id out of range).
using StepFunction = void (*)(const StepContext&);

/// Bytes of scratch that each thread needs for these extents and dtypes; the context's data pointers are
/// null.
using ScratchFunction = std::int64_t (*)(const StepContext&);

/// A weight [out, in, kernel ...] as the kernels take it, [out, in * kernel]: all but its first dimension together.
/// Precondition: at least two dimensions, contiguous from the second on.
[[nodiscard]] inline kernels::WeightMatrix weight_matrix(const TensorView& view) noexcept {
  std::int64_t cols = view.extent(1);
  for (int axis = 2; axis < view.rank; ++axis) cols *= view.extent(axis);
  return {view.data, view.dtype, view.extent(0), cols, view.stride(0)};
}
/// A one-dimensional weight; empty if the view is.
[[nodiscard]] inline kernels::WeightVector weight_vector(const TensorView& view) noexcept {
  return {view.data, view.dtype, view.rank == 0 ? 0 : view.size()};
}

} // namespace tenon

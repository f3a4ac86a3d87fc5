// SPDX-License-Identifier: Apache-2.0
// Ops without weights that join or reshape meaning: Add and Multiply (two wires of one shape), Geglu, Softmax (over the last
// dimension).
#pragma once

#include <tenon/kernels/activations.hpp>
#include <tenon/kernels/elementwise.hpp>
#include <tenon/kernels/softmax.hpp>
#include <tenon/layers/shape_keeping.hpp>

#include <span>

namespace tenon {

/// A kernel from two wires of one shape to a third, which may be the first.
using PairKernel = void (*)(std::span<const float>, std::span<const float>, std::span<float>);

template <PairKernel Kernel>
void pair_step(const StepContext& context) {
  const std::span<const float> a = context.inputs[0].values();
  const std::span<const float> b = context.inputs[1].values();
  const std::span<float> y = context.output.values();
  context.workers.share(std::ssize(a), kernels::lane_count, 2,
                        [&](std::int64_t first, std::int64_t count, kernels::Scratch) {
                          const auto begin = static_cast<std::size_t>(first);
                          const auto size = static_cast<std::size_t>(count);
                          Kernel(a.subspan(begin, size), b.subspan(begin, size), y.subspan(begin, size));
                        });
}

template <fixed_string Name, PairKernel Kernel>
struct Pairwise {
  static constexpr std::size_t inputs = 2;
  static constexpr bool same_inputs = true;
  static constexpr Shape takes(std::size_t) { return Shape::any(); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = Name.view(),
                         .run = &pair_step<Kernel>,
                         .inputs = {wires[0], wires[1]},
                         .output = builder.shape(wires[0]),
                         .in_place = 2});
  }
};

/// a + b, element by element: a residual connection.
struct Add : Pairwise<"Add", &kernels::add> {};
/// a * b, element by element: a gate.
struct Multiply : Pairwise<"Multiply", &kernels::multiply> {};

inline void geglu_step(const StepContext& context) {
  const kernels::ConstMatrix x = context.inputs[0].const_matrix();
  const kernels::Matrix y = context.output.matrix();
  context.workers.share(
      x.rows, 1, 12 * x.cols, [&](std::int64_t first, std::int64_t count, kernels::Scratch) {
        for (std::int64_t i = first; i < first + count; ++i) {
          kernels::gelu(x.cols_from(y.cols, y.cols).row_span(i), y.row_span(i));
          kernels::multiply(y.row_span(i), x.cols_from(0, y.cols).row_span(i), y.row_span(i));
        }
      });
}

/// a * gelu(b) of x = [a | b]: [..., 2 d] -> [..., d] (Shazeer 2020, arXiv 2002.05202).
template <std::int64_t D>
struct Geglu {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(2 * D); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0].with_width(D); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "Geglu",
                         .run = &geglu_step,
                         .inputs = {wires[0]},
                         .output = builder.shape(wires[0]).with_width(D)});
  }
};

inline void softmax_step(const StepContext& context) {
  kernels::softmax(context.inputs[0].const_matrix(), context.output.matrix());
}

/// exp(x - max) / sum over the last dimension.
struct Softmax : ShapeKeeping<"Softmax", &softmax_step> {};

} // namespace tenon

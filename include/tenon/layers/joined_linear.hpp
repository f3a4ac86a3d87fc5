// SPDX-License-Identifier: Apache-2.0
// JoinedLinear<"name", A, B, Out>: a Linear of two wires' channels side by side, [a | b] W^T + b, without a buffer that
// holds them joined: rows are put together a tile at a time. Weights and slot are those of a Linear of A + B inputs.
#pragma once

#include <tenon/layers/linear.hpp>

#include <algorithm>

namespace tenon {

/// Rows that are put together at a time: about 8 MiB, at least 64.
[[nodiscard]] constexpr std::int64_t joined_tile_rows(std::int64_t rows, std::int64_t cols) noexcept {
  constexpr std::int64_t floats = std::int64_t{8} * 1024 * 1024 / 4;
  return std::min(rows, std::max<std::int64_t>(floats / cols, 64));
}

template <bool HasSlot>
void joined_linear_step(const StepContext& context) {
  const kernels::ConstMatrix a = context.inputs[0].const_matrix();
  const kernels::ConstMatrix b = context.inputs[1].const_matrix();
  const kernels::Matrix y = context.output.matrix();
  const std::int64_t cols = a.cols + b.cols;
  const std::int64_t step = joined_tile_rows(y.rows, cols);
  kernels::Workers workers = context.workers;
  const kernels::Matrix tile{workers.take<float>(step * cols).data(), step, cols, cols};
  for (std::int64_t i = 0; i < y.rows; i += step) {
    const std::int64_t rows = std::min(step, y.rows - i);
    workers.share(rows, 1, 2 * cols, [&](std::int64_t first, std::int64_t count, kernels::Scratch) {
      for (std::int64_t row = first; row < first + count; ++row) {
        std::ranges::copy(a.row_span(i + row), tile.row(row));
        std::ranges::copy(b.row_span(i + row), tile.row(row) + a.cols);
      }
    });
    slot_product<HasSlot>(context, tile.rows_from(0, rows), y.rows_from(i, rows), workers);
  }
}

template <bool HasSlot>
std::int64_t joined_linear_step_scratch(const StepContext& context) {
  const TensorView& w = context.weights[0];
  const std::int64_t rows = joined_tile_rows(context.output.rows(), w.extent(1));
  return kernels::scratch_sum(
      {kernels::scratch_bytes<float>(rows * w.extent(1)),
       slot_product_scratch_bytes<HasSlot>(rows, w.extent(0), w.extent(1), context.has_deltas)});
}

/// a [..., A] and b [..., B] -> [..., Out]. Options as of Linear.
template <fixed_string Name, std::int64_t A, std::int64_t B, std::int64_t Out, class... Options>
struct JoinedLinear {
  static_assert(A > 0 && B > 0 && Out > 0, "tenon::JoinedLinear: widths are positive numbers");

  static constexpr std::size_t inputs = 2;
  static constexpr Shape takes(std::size_t input) { return Shape::rows_of(input == 0 ? A : B); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0].with_width(Out); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    using Chosen = LinearOptions<Options...>;
    if (!(builder.shape(wires[0]).with_width(1) == builder.shape(wires[1]).with_width(1)))
      throw "tenon::JoinedLinear: the two wires must agree in all dimensions but the last";
    const std::size_t mark = builder.enter(Name.view());
    const std::uint32_t kinds = builder.open_kinds(Chosen::slot_kinds);
    const std::int32_t weight = builder.weight("weight", {Out, A + B});
    const std::int32_t bias = Chosen::has_bias ? builder.weight("bias", {Out}) : no_index;
    const std::int32_t slot = builder.slot(kinds, weight, bias);
    const WireId y = builder.step(
        {.op = "JoinedLinear",
         .run = kinds != 0 ? &joined_linear_step<true> : &joined_linear_step<false>,
         .scratch = kinds != 0 ? &joined_linear_step_scratch<true> : &joined_linear_step_scratch<false>,
         .inputs = {wires[0], wires[1]},
         .output = builder.shape(wires[0]).with_width(Out),
         .weights = {weight, bias},
         .slot = slot});
    builder.leave(mark);
    for (const SliceSpec& slice : SlicesOfLayer<A + B, Out, Options...>::list) builder.slice(slot, slice);
    return y;
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Adaptive layer norm (Peebles and Xie 2022, arXiv 2212.09748), of a modulation m [batch, parts * d] that a Linear makes
// of the time embedding: ModulatedNorm and GatedAdd each read one or two of its parts. AddModulationTable: m plus a
// learned table, as Wan has for each block. AddPerSequence: one row for all places of a sequence.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/op.hpp>
#include <tenon/kernels/modulation.hpp>
#include <tenon/layers/norm.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>

namespace tenon {

/// Calls `f(first row, rows, sequence, scratch)` for runs of rows that belong to one sequence, shared among threads.
template <class F>
void share_rows_of_sequences(const StepContext& context, std::int64_t cost_of_row, F f) {
  const WireView& x = context.inputs[0];
  const std::int64_t per_sequence = x.rows() / x.extent(0);
  context.workers.share(x.rows(), 1, cost_of_row,
                        [&](std::int64_t first, std::int64_t count, kernels::Scratch scratch) {
                          for (const std::int64_t end = first + count; first < end;) {
                            const std::int64_t sequence = first / per_sequence;
                            const std::int64_t rows = std::min(end, (sequence + 1) * per_sequence) - first;
                            f(first, rows, sequence, scratch);
                            first += rows;
                          }
                        });
}

/// params.integers: d, the part that is the scale, the part that is the shift.
inline void modulated_norm_step(const StepContext& context) {
  const kernels::ConstMatrix x = context.inputs[0].const_matrix();
  const kernels::ConstMatrix m = context.inputs[1].const_matrix();
  const auto& params = context.params.integers;
  const auto part = [&](std::int64_t sequence, std::int64_t index) {
    return m.cols_from(index * params[0], params[0]).row_span(sequence);
  };
  share_rows_of_sequences(
      context, 10 * x.cols,
      [&](std::int64_t first, std::int64_t rows, std::int64_t sequence, kernels::Scratch scratch) {
        kernels::modulated_norm(x.rows_from(first, rows), part(sequence, params[1]),
                                part(sequence, params[2]), static_cast<double>(context.params.reals[0]),
                                context.output.matrix().rows_from(first, rows), scratch);
      });
}

inline std::int64_t modulated_norm_step_scratch(const StepContext& context) {
  return kernels::modulated_norm_scratch_bytes(context.params.integers[0]);
}

/// layer_norm(x) (1 + m[Scale]) + m[Shift]: x [batch, ..., d], m [batch, Parts * d] -> as x.
template <std::int64_t D, std::int64_t Parts, std::int64_t Scale, std::int64_t Shift,
          Epsilon Eps = Epsilon{1e-6f}>
struct ModulatedNorm {
  static_assert(Scale >= 0 && Scale < Parts && Shift >= 0 && Shift < Parts,
                "tenon::ModulatedNorm: scale and shift are parts of the modulation, counted from 0");

  static constexpr std::size_t inputs = 2;
  static constexpr Shape takes(std::size_t input) {
    return input == 0 ? Shape::rows_of(D) : Shape::of({batch_dim, fixed(Parts * D)});
  }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "ModulatedNorm",
                         .run = &modulated_norm_step,
                         .scratch = &modulated_norm_step_scratch,
                         .inputs = {wires[0], wires[1]},
                         .output = builder.shape(wires[0]),
                         .params = {.integers = {D, Scale, Shift}, .reals = {Eps.value}},
                         .in_place = 1});
  }
};

/// params.integers: d, the part that is the gate.
inline void gated_add_step(const StepContext& context) {
  const kernels::ConstMatrix x = context.inputs[0].const_matrix();
  const kernels::ConstMatrix z = context.inputs[1].const_matrix();
  const auto& params = context.params.integers;
  const kernels::ConstMatrix gate =
      context.inputs[2].const_matrix().cols_from(params[1] * params[0], params[0]);
  share_rows_of_sequences(
      context, 2 * x.cols,
      [&](std::int64_t first, std::int64_t rows, std::int64_t sequence, kernels::Scratch) {
        kernels::gated_add(x.rows_from(first, rows), z.rows_from(first, rows), gate.row_span(sequence),
                           context.output.matrix().rows_from(first, rows));
      });
}

/// x + m[Gate] z: x and z [batch, ..., d], m [batch, Parts * d] -> as x.
template <std::int64_t D, std::int64_t Parts, std::int64_t Gate>
struct GatedAdd {
  static_assert(Gate >= 0 && Gate < Parts,
                "tenon::GatedAdd: the gate is a part of the modulation, counted from 0");

  static constexpr std::size_t inputs = 3;
  static constexpr Shape takes(std::size_t input) {
    return input < 2 ? Shape::rows_of(D) : Shape::of({batch_dim, fixed(Parts * D)});
  }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "GatedAdd",
                         .run = &gated_add_step,
                         .inputs = {wires[0], wires[1], wires[2]},
                         .output = builder.shape(wires[0]),
                         .params = {.integers = {D, Gate}},
                         .in_place = 2});
  }
};

inline void add_modulation_table_step(const StepContext& context) {
  const WireView& m = context.inputs[0];
  const TensorView& table = context.weights[0];
  const kernels::Matrix y = context.output.matrix();
  for (std::int64_t i = 0; i < y.rows; ++i) {
    decode(table.dtype, table.data, y.cols, y.row(i));
    for (std::int64_t j = 0; j < y.cols; ++j) y.row(i)[j] += m.const_matrix().row(i)[j % m.width()];
  }
}

/// m + `Name` [1, Parts, d]: m [batch, Parts * d], or [batch, d], which is added to each part -> [batch, Parts * d].
template <fixed_string Name, std::int64_t Parts, std::int64_t D, std::int64_t Given = Parts>
struct AddModulationTable {
  static_assert(Given == Parts || Given == 1,
                "tenon::AddModulationTable: it reads all parts, or one for all");

  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::of({batch_dim, fixed(Given * D)}); }
  static constexpr Shape gives(std::span<const Shape>) { return Shape::of({batch_dim, fixed(Parts * D)}); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const std::int32_t table = builder.weight(Name.view(), {1, Parts, D});
    return builder.step({.op = "AddModulationTable",
                         .run = &add_modulation_table_step,
                         .inputs = {wires[0]},
                         .output = Shape::of({batch_dim, fixed(Parts * D)}),
                         .weights = {table}});
  }
};

inline void add_per_sequence_step(const StepContext& context) {
  const kernels::ConstMatrix x = context.inputs[0].const_matrix();
  const kernels::ConstMatrix row = context.inputs[1].const_matrix();
  share_rows_of_sequences(
      context, x.cols, [&](std::int64_t first, std::int64_t rows, std::int64_t sequence, kernels::Scratch) {
        for (std::int64_t i = first; i < first + rows; ++i)
          kernels::add(x.row_span(i), row.row_span(sequence), context.output.matrix().row_span(i));
      });
}

/// x [batch, ..., d] + row [batch, d] at every place: how a time embedding enters a UNet's resnets.
template <std::int64_t D>
struct AddPerSequence {
  static constexpr std::size_t inputs = 2;
  static constexpr Shape takes(std::size_t input) {
    return input == 0 ? Shape::rows_of(D) : Shape::of({batch_dim, fixed(D)});
  }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "AddPerSequence",
                         .run = &add_per_sequence_step,
                         .inputs = {wires[0], wires[1]},
                         .output = builder.shape(wires[0]),
                         .in_place = 1});
  }
};

} // namespace tenon

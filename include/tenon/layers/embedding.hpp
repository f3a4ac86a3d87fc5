// SPDX-License-Identifier: Apache-2.0
// Embedding<"name", Count, D>: rows of `name.weight` [count, d] chosen by I32 ids [batch, tokens]; with a slot for
// adapters if it is asked for.
// AddPositions<"name", Count, D>: adds row t of `name.weight` to token t. AddEmbeddingRow<"name", Count, D,
// Row>: adds one fixed row to every token (BERT's token type 0). All named as their tables are in a
// checkpoint.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/fixed_string.hpp>
#include <tenon/core/text.hpp>
#include <tenon/graph/op.hpp>
#include <tenon/kernels/delta_rows.hpp>
#include <tenon/kernels/embedding.hpp>
#include <tenon/kernels/low_rank_embedding.hpp>
#include <tenon/layers/table_rows.hpp>

namespace tenon {

/// Rows of the table, or of what is attached in its place.
template <bool HasSlot>
void embedding_step(const StepContext& context) {
  const std::span<const std::int32_t> ids = context.inputs[0].ids();
  const kernels::Matrix y = context.output.matrix();
  if constexpr (!HasSlot) {
    kernels::embedding(ids, weight_matrix(context.weights[0]), y);
  } else {
    const ActiveSlot& slot = *context.slot;
    kernels::embedding(ids, weight_matrix(slot.weight), y);
    for (const SideTerm* side = slot.terms.first; side != nullptr; side = side->next)
      kernels::low_rank_embedding_add(ids, {&side->term, 1}, y, context.workers);
    for (const SideDelta* side = slot.deltas.first; side != nullptr; side = side->next)
      for (std::int64_t i = 0; i < y.rows; ++i)
        kernels::add_delta_rows(side->term, weight_matrix(slot.base), ids[static_cast<std::size_t>(i)],
                                y.rows_from(i, 1), context.workers.scratch());
  }
}

#if !TENON_HAS_BODIES
extern template void embedding_step<true>(const StepContext&);
extern template void embedding_step<false>(const StepContext&);
#elif defined(TENON_COMPILED)
template void embedding_step<true>(const StepContext&);
template void embedding_step<false>(const StepContext&);
#endif

inline std::int64_t embedding_step_scratch(const StepContext& context) {
  const TensorView& table = context.weights[0];
  const std::int64_t side = kernels::low_rank_embedding_scratch_bytes(table.extent(1));
  return !context.has_deltas
             ? side
             : std::max(side, kernels::delta_rows_scratch_bytes(table.extent(0), table.extent(1)));
}

/// Throws `error{bad_argument}` in a forward pass for an id outside 0 ... Count - 1. Option: a slot, `AnySlot` or
/// `Slot<Kinds...>`; an embedding has none unless it is asked for.
template <fixed_string Name, std::int64_t Count, std::int64_t D, class SlotOption = NoSlot>
struct Embedding {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::of({batch_dim, tokens_dim}, DType::i32); }
  static constexpr Shape gives(std::span<const Shape>) {
    return Shape::of({batch_dim, tokens_dim, fixed(D)});
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const std::size_t mark = builder.enter(Name.view());
    const std::uint32_t kinds = builder.open_kinds(SlotOption::kinds);
    const std::int32_t table = builder.weight("weight", {Count, D});
    const WireId y = builder.step({.op = "Embedding",
                                   .run = kinds != 0 ? &embedding_step<true> : &embedding_step<false>,
                                   .scratch = kinds != 0 ? &embedding_step_scratch : nullptr,
                                   .inputs = {wires[0]},
                                   .output = Shape::of({batch_dim, tokens_dim, fixed(D)}),
                                   .weights = {table},
                                   .slot = builder.slot(kinds, table)});
    builder.leave(mark);
    return y;
  }
};

inline void add_rows_step(const StepContext& context) {
  add_table_rows(context, weight_matrix(context.weights[0]), token_places(context));
}

/// The shared part of the two ops that add a table's rows.
template <fixed_string Name, std::int64_t Count, std::int64_t D, std::int64_t Row>
struct AddRows {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::of({batch_dim, tokens_dim, fixed(D)}); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const std::size_t mark = builder.enter(Name.view());
    const std::int32_t table = builder.weight("weight", {Count, D});
    const WireId y = builder.step({.op = Row < 0 ? "AddPositions" : "AddEmbeddingRow",
                                   .run = &add_rows_step,
                                   .inputs = {wires[0]},
                                   .output = builder.shape(wires[0]),
                                   .weights = {table},
                                   .params = {.integers = {Row}},
                                   .in_place = 1});
    builder.leave(mark);
    return y;
  }
};

/// Learned absolute positions. Throws `shape_error` in a forward pass with more than `Count` tokens.
template <fixed_string Name, std::int64_t Count, std::int64_t D>
struct AddPositions : AddRows<Name, Count, D, -1> {};

template <fixed_string Name, std::int64_t Count, std::int64_t D, std::int64_t Row = 0>
struct AddEmbeddingRow : AddRows<Name, Count, D, Row> {
  static_assert(Row >= 0 && Row < Count, "tenon::AddEmbeddingRow: the row lies outside the table");
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Tables of embeddings on a device: Embedding with the LoRA of its slot (kernels/low_rank_embedding.hpp), AddPositions,
// AddEmbeddingRow. An id that the table does not have is reported as the run's fault, and row 0 read in its place. Cost:
// a row read and one written for each id, and 2 rank d flops for each term.
#pragma once

#include <tenon/gpu/step_weights.hpp>
#include <tenon/gpu/table_rows.hpp>

#include <cstdint>

namespace tenon::gpu {

template <class Storage>
struct EmbeddingElement {
  const std::int32_t* ids;
  StoredPointer<Storage> table; ///< [size, width]
  std::int64_t size;
  std::int64_t stride;
  float* y;
  std::int64_t width;
  std::int32_t* fault;
  std::int32_t number;
  TENON_HD void operator()(std::int64_t i) const {
    std::int64_t id = ids[i / width];
    if (id < 0 || id >= size) {
      report_fault(fault, number);
      id = 0;
    }
    y[i] = table[id * stride + i % width];
  }
};

/// y += scale * row_gain B[id] diag(rank_gain) A: B [rows, rank] holds the table's rows from `first_row` on, A is
/// [rank, width].
template <class Storage>
struct EmbeddingTermElement {
  const std::int32_t* ids;
  StoredPointer<Storage> a;
  std::int64_t a_stride;
  StoredVector b;
  std::int64_t b_rows;
  std::int64_t b_stride;
  std::int64_t rank;
  std::int64_t first_row;
  std::int64_t size; ///< of the table: another id reads row 0
  const float* row_gain;
  const float* rank_gain;
  const float* scale_at;
  float scale;
  float* y;
  std::int64_t width;
  TENON_HD void operator()(std::int64_t i) const {
    std::int64_t row = ids[i / width];
    row = (row < 0 || row >= size ? 0 : row) - first_row;
    if (row < 0 || row >= b_rows) return;
    const float gain =
        (scale_at == nullptr ? scale : *scale_at) * (row_gain == nullptr ? 1.0f : row_gain[row]);
    float sum = 0;
    for (std::int64_t r = 0; r < rank; ++r) {
      const float factor = b[row * b_stride + r] * (rank_gain == nullptr ? 1.0f : rank_gain[r]);
      sum += factor * a[r * a_stride + i % width];
    }
    y[i] += gain * sum;
  }
};

inline void add_embedding_term(const StepContext& context, const kernels::LowRankTerm& term,
                               std::int64_t size) {
  const WireView& y = context.output;
  with_storage(term.a.dtype, [&]<class Storage>(Storage) {
    for_each_index(context.device->queue, y.size(),
                   EmbeddingTermElement<Storage>{.ids = context.inputs[0].ids().data(),
                                                 .a = StoredPointer<Storage>(term.a.data),
                                                 .a_stride = term.a.stride,
                                                 .b = StoredVector(term.b.data, term.b.dtype),
                                                 .b_rows = term.b.rows,
                                                 .b_stride = term.b.stride,
                                                 .rank = term.a.rows,
                                                 .first_row = term.first_row,
                                                 .size = size,
                                                 .row_gain = term.row_gain,
                                                 .rank_gain = term.rank_gain,
                                                 .scale_at = term.scale_at,
                                                 .scale = term.scale,
                                                 .y = y.values().data(),
                                                 .width = y.width()});
  });
}

/// Ids [batch, tokens] (I32), table [count, d] -> [batch, tokens, d].
inline void embedding_step(const StepContext& context) {
  const WireView& y = context.output;
  const kernels::WeightMatrix table = weight_matrix(slot_weight(context, SideTerms::low_rank));
  with_storage(table.dtype, [&]<class Storage>(Storage) {
    for_each_index(context.device->queue, y.size(),
                   EmbeddingElement<Storage>{.ids = context.inputs[0].ids().data(),
                                             .table = StoredPointer<Storage>(table.data),
                                             .size = table.rows,
                                             .stride = table.stride,
                                             .y = y.values().data(),
                                             .width = y.width(),
                                             .fault = context.device->fault,
                                             .number = context.number});
  });
  if (context.slot == nullptr) return;
  for (const SideTerm* side = context.slot->terms.first; side != nullptr; side = side->next)
    add_embedding_term(context, side->term, table.rows);
}

/// x [batch, tokens, d] + rows of a table [count, d]; see `token_places`.
inline void add_rows_step(const StepContext& context) { add_table_rows(context, token_places(context)); }

} // namespace tenon::gpu

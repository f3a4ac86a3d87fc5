// SPDX-License-Identifier: Apache-2.0
// Multi-head scaled dot-product attention (Vaswani et al., arXiv:1706.03762, section 3.2): for each head,
// softmax(q k^T / sqrt(head_dim)) v. Query rows go through in tiles, so that the scores held are [tile, keys]
// and never [queries, keys]. A masked key's score is the lowest float, as in Hugging Face's eager attention:
// it gets weight 0, except in a row with every key masked, which averages all of them and stays finite. Cost:
// 4 batch queries keys width flops; scratch linear in keys. One thread.
#pragma once

#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/softmax.hpp>
#include <tenon/kernels/workers.hpp>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::kernels {

/// How the rows and columns of q, k and v fall into sequences and heads.
struct AttentionShape {
  std::int64_t batch = 1;
  std::int64_t queries = 0; ///< tokens per sequence in q
  std::int64_t keys = 0;    ///< tokens per sequence in k and v
  std::int64_t heads = 1;
};

inline constexpr std::int64_t attention_tile = 64;

/// Scratch of `attention`: 256 bytes * keys for the scores, and that of the products. Grows with each
/// argument.
[[nodiscard]] constexpr std::int64_t attention_scratch_bytes(std::int64_t queries, std::int64_t keys,
                                                             std::int64_t head_dim) noexcept {
  const std::int64_t tile = std::min(queries, attention_tile);
  return scratch_sum(
      {scratch_bytes<float>(tile * keys), scratch_max({multiply_scratch_bytes(tile, keys, head_dim),
                                                       multiply_scratch_bytes(tile, head_dim, keys)})});
}

/// out = softmax(q k^T / sqrt(head_dim)) v for a tile of queries of one head of one sequence; `mask` as
/// below.
inline void attention_tile_of_head(ConstMatrix q, ConstMatrix k, ConstMatrix v, std::span<const float> mask,
                                   Matrix out, Scratch scratch) {
  const Matrix scores{scratch.take<float>(q.rows * k.rows).data(), q.rows, k.rows, k.rows};
  std::fill_n(scores.data, q.rows * k.rows, 0.0f);
  multiply_nt(q, k, 1.0f / std::sqrt(static_cast<float>(q.cols)), scores, scratch);
  for (std::int64_t i = 0; i < q.rows; ++i) {
    for (std::size_t j = 0; j < mask.size(); ++j)
      if (mask[j] == 0.0f) scores.row_span(i)[j] = masked_score;
    std::fill_n(out.row(i), out.cols, 0.0f);
  }
  softmax(scores, scores);
  multiply_nn(scores, v, 1.0f, out, scratch);
}

/// out [batch * queries, heads * head_dim] from q (the same shape) and k, v [batch * keys, heads * head_dim].
/// `mask` [batch * keys] is 0 for keys to ignore, or empty. Precondition: out overlaps nothing else.
inline void attention(ConstMatrix q, ConstMatrix k, ConstMatrix v, std::span<const float> mask,
                      AttentionShape shape, Matrix out, Workers workers) {
  assert(q.rows == shape.batch * shape.queries && k.rows == shape.batch * shape.keys && v.rows == k.rows &&
         out.rows == q.rows && q.cols == k.cols && v.cols == q.cols && out.cols == q.cols &&
         q.cols % shape.heads == 0 && "attention: shapes [batch*queries,width] [batch*keys,width]");
  assert((mask.empty() || static_cast<std::int64_t>(mask.size()) == k.rows) &&
         "attention: one mask value per key");
  const std::int64_t dim = q.cols / shape.heads;
  const std::int64_t tiles = (shape.queries + attention_tile - 1) / attention_tile;
  const auto one_tile = [&](std::int64_t index, Scratch scratch) { // of one head of one sequence
    const std::int64_t batch = index / (shape.heads * tiles);
    const std::int64_t column = index / tiles % shape.heads * dim;
    const std::int64_t i = index % tiles * attention_tile;
    const std::int64_t first_key = batch * shape.keys;
    const auto kept = mask.empty() ? mask
                                   : mask.subspan(static_cast<std::size_t>(first_key),
                                                  static_cast<std::size_t>(shape.keys));
    const std::int64_t row = batch * shape.queries + i;
    const std::int64_t rows = std::min(attention_tile, shape.queries - i);
    attention_tile_of_head(q.rows_from(row, rows).cols_from(column, dim),
                           k.rows_from(first_key, shape.keys).cols_from(column, dim),
                           v.rows_from(first_key, shape.keys).cols_from(column, dim), kept,
                           out.rows_from(row, rows).cols_from(column, dim), scratch);
  };
  workers.share(shape.batch * shape.heads * tiles, 1,
                4 * std::min(attention_tile, shape.queries) * shape.keys * dim,
                [&](std::int64_t first, std::int64_t count, Scratch scratch) {
                  for (std::int64_t index = first; index < first + count; ++index) one_tile(index, scratch);
                });
}

} // namespace tenon::kernels

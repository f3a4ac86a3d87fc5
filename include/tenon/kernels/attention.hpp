// SPDX-License-Identifier: Apache-2.0
// Multi-head scaled dot-product attention (Vaswani et al., arXiv:1706.03762, section 3.2): for each head,
// softmax(scale q k^T + bias) v. Heads may share keys and values in groups (Ainslie et al., arXiv:2305.13245); a causal
// query reads the keys up to its own place. Query rows go through in tiles, so that the scores held are [tile, keys]
// and never [queries, keys]. A masked key's score is the lowest float, as in Hugging Face's eager attention:
// it gets weight 0, except in a row with every key masked, which averages all of them and stays finite. Cost:
// 4 batch queries keys width flops; scratch linear in keys.
#pragma once

#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/softmax.hpp>
#include <tenon/kernels/workers.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <span>

namespace tenon::kernels {

/// A learned number for each head and each distance between key and query, distances in buckets: T5's (Raffel et al.,
/// arXiv:1910.10683). Half of the buckets are single distances, the others grow up to `max_distance`, as
/// transformers' T5Attention._relative_position_bucket; bidirectional: keys after the query have buckets of their own.
struct RelativeBias {
  WeightMatrix table{}; ///< [buckets, heads]; no data: none
  std::int64_t max_distance = 128;
  bool is_bidirectional = true;

  /// The bucket of a key at `distance` = its place - the query's.
  [[nodiscard]] constexpr std::int64_t bucket(std::int64_t distance) const noexcept {
    std::int64_t count = table.rows;
    std::int64_t first = 0;
    std::int64_t size = -distance;
    if (is_bidirectional) {
      count /= 2;
      if (distance > 0) first = count;
      size = std::abs(distance);
    } else if (size < 0) {
      size = 0;
    }
    const std::int64_t single = count / 2;
    if (size < single) return first + size;
    const double steps = std::log(static_cast<double>(size) / static_cast<double>(single)) /
                         std::log(static_cast<double>(max_distance) / static_cast<double>(single));
    const auto large =
        single + static_cast<std::int64_t>(static_cast<float>(steps) * static_cast<float>(count - single));
    return first + std::min(large, count - 1);
  }
};

/// How the rows and columns of q, k and v fall into sequences and heads.
struct AttentionShape {
  std::int64_t batch = 1;
  std::int64_t queries = 0; ///< tokens per sequence in q
  std::int64_t keys = 0;    ///< tokens per sequence in k and v
  std::int64_t heads = 1;
  std::int64_t kv_heads = 0;    ///< heads of k and v, which groups of query heads share; 0: as many as heads
  std::int64_t key_stride = 0;  ///< rows of k and v from one sequence to the next; 0: as many as keys
  std::int64_t first_query = 0; ///< place of the first query among the keys
  bool is_causal = false;
  float scale = 0.0f; ///< 0: 1 / sqrt(head width)
  RelativeBias bias{};

  /// Keys that queries up to `place` (from 0) of this call may read.
  [[nodiscard]] std::int64_t keys_until(std::int64_t place) const noexcept {
    return is_causal ? std::min(keys, first_query + place + 1) : keys;
  }
};

inline constexpr std::int64_t attention_tile = 64;

/// Scratch of `attention`: 256 bytes * keys for the scores, 4 more for biases, and that of the products. Grows with
/// each argument.
[[nodiscard]] constexpr std::int64_t attention_scratch_bytes(std::int64_t queries, std::int64_t keys,
                                                             std::int64_t head_dim) noexcept {
  const std::int64_t tile = std::min(queries, attention_tile);
  return scratch_sum({scratch_bytes<float>(tile * keys), scratch_bytes<float>(tile + keys),
                      scratch_max({multiply_scratch_bytes(tile, keys, head_dim),
                                   multiply_scratch_bytes(tile, head_dim, keys)})});
}

/// scores[i, j] += the bias of head `head` for query `first + i` and key j.
inline void add_relative_bias(const RelativeBias& bias, std::int64_t head, std::int64_t first, Matrix scores,
                              Scratch scratch) {
  const std::span<float> of_distance =
      scratch.take<float>(scores.rows + scores.cols); // from -(first + rows - 1)
  const std::int64_t least = -(first + scores.rows - 1);
  for (std::int64_t d = 0; d < scores.rows + scores.cols - 1; ++d)
    decode(bias.table.dtype, bias.table.at(bias.bucket(least + d), head), 1,
           &of_distance[static_cast<std::size_t>(d)]);
  for (std::int64_t i = 0; i < scores.rows; ++i) {
    const float* const from = of_distance.data() + (-(first + i) - least);
    for (std::int64_t j = 0; j < scores.cols; ++j) scores.row(i)[j] += from[j];
  }
}

/// A tile of queries of one head of one sequence, from query `first` on: out = softmax(scale q k^T + bias) v. `mask`
/// as below.
inline void attention_tile_of_head(ConstMatrix q, ConstMatrix k, ConstMatrix v, std::span<const float> mask,
                                   const AttentionShape& shape, std::int64_t head, std::int64_t first,
                                   Matrix out, Scratch scratch) {
  const Matrix scores{scratch.take<float>(q.rows * k.rows).data(), q.rows, k.rows, k.rows};
  std::fill_n(scores.data, q.rows * k.rows, 0.0f);
  multiply_nt(q, k, shape.scale != 0.0f ? shape.scale : 1.0f / std::sqrt(static_cast<float>(q.cols)), scores,
              scratch);
  if (shape.bias.table.data != nullptr)
    add_relative_bias(shape.bias, head, shape.first_query + first, scores, scratch);
  for (std::int64_t i = 0; i < q.rows; ++i) {
    for (std::size_t j = 0; j < mask.size(); ++j)
      if (mask[j] == 0.0f) scores.row_span(i)[j] = masked_score;
    const std::int64_t end = shape.keys_until(first + i);
    std::fill(scores.row(i) + end, scores.row(i) + scores.cols, -std::numeric_limits<float>::infinity());
    std::fill_n(out.row(i), out.cols, 0.0f);
  }
  softmax(scores, scores);
  multiply_nn(scores, v, 1.0f, out, scratch);
}

/// out [batch * queries, heads * head_dim] from q (the same shape) and k, v [batch * key_stride, kv_heads * head_dim].
/// `mask` [batch * keys] is 0 for keys to ignore, or empty. Precondition: out overlaps nothing else.
inline void attention(ConstMatrix q, ConstMatrix k, ConstMatrix v, std::span<const float> mask,
                      AttentionShape shape, Matrix out, Workers workers) {
  if (shape.kv_heads == 0) shape.kv_heads = shape.heads;
  if (shape.key_stride == 0) shape.key_stride = shape.keys;
  assert(q.rows == shape.batch * shape.queries &&
         k.rows >= (shape.batch - 1) * shape.key_stride + shape.keys && v.rows == k.rows &&
         out.rows == q.rows && v.cols == k.cols && out.cols == q.cols && q.cols % shape.heads == 0 &&
         shape.heads % shape.kv_heads == 0 && k.cols / shape.kv_heads == q.cols / shape.heads &&
         "attention: shapes [batch*queries,width] [batch*keys,width]");
  assert((mask.empty() || static_cast<std::int64_t>(mask.size()) == shape.batch * shape.keys) &&
         "attention: one mask value per key");
  const std::int64_t dim = q.cols / shape.heads;
  const std::int64_t group = shape.heads / shape.kv_heads;
  const std::int64_t tiles = (shape.queries + attention_tile - 1) / attention_tile;
  const auto one_tile = [&](std::int64_t index, Scratch scratch) { // of one head of one sequence
    const std::int64_t batch = index / (shape.heads * tiles);
    const std::int64_t head = index / tiles % shape.heads;
    const std::int64_t i = index % tiles * attention_tile;
    const std::int64_t rows = std::min(attention_tile, shape.queries - i);
    const std::int64_t keys = shape.keys_until(i + rows - 1);
    const std::int64_t first_key = batch * shape.key_stride;
    const std::int64_t row = batch * shape.queries + i;
    const auto kept = mask.empty() ? mask
                                   : mask.subspan(static_cast<std::size_t>(batch * shape.keys),
                                                  static_cast<std::size_t>(keys));
    attention_tile_of_head(q.rows_from(row, rows).cols_from(head * dim, dim),
                           k.rows_from(first_key, keys).cols_from(head / group * dim, dim),
                           v.rows_from(first_key, keys).cols_from(head / group * dim, dim), kept, shape, head,
                           i, out.rows_from(row, rows).cols_from(head * dim, dim), scratch);
  };
  workers.share(shape.batch * shape.heads * tiles, 1,
                4 * std::min(attention_tile, shape.queries) * shape.keys * dim,
                [&](std::int64_t first, std::int64_t count, Scratch scratch) {
                  for (std::int64_t index = first; index < first + count; ++index) one_tile(index, scratch);
                });
}

} // namespace tenon::kernels

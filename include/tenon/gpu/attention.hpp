// SPDX-License-Identifier: Apache-2.0
// Attention on a device: softmax(scale q k^T + bias) v per head, with all that kernels/attention.hpp takes. A team has a
// few queries of one head and goes through the keys in tiles, with a running maximum and sum (Milakov and Gimelshein 2018,
// arXiv 1805.02867; Dao et al. 2022, arXiv 2205.14135): never tokens x tokens. What is summed so far is in the output
// itself, so that a head may have any width. Cost: 4 batch queries keys width flops; keys and values are read once for
// each four queries.
#pragma once

#include <tenon/gpu/keep_keys.hpp>
#include <tenon/gpu/rows.hpp>
#include <tenon/gpu/step_weights.hpp>
#include <tenon/kernels/attention.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace tenon::gpu {

inline constexpr std::int64_t team_queries = 4;
inline constexpr std::int64_t tile_keys = team_floats / team_queries;

/// [heads, distances]: the relative bias of each distance key - query, from the last query's to the first key on.
struct RelativeBiasElement {
  kernels::RelativeBias bias;
  StoredVector table; ///< [buckets, heads]
  float* y;
  std::int64_t least; ///< distance
  std::int64_t distances;
  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t bucket = bias.bucket(least + i % distances);
    y[i] = table[bucket * bias.table.cols + i / distances];
  }
};

struct AttentionQueries {
  const float* q; ///< [batch * queries, heads * width], as y
  const float* k; ///< [batch * key_stride, kv_heads * width], as v; rows `key_width` apart
  const float* v;
  const float* mask; ///< [batch, keys] or null
  const float* bias; ///< [heads, queries + keys - 1] or null
  float* y;
  std::int64_t queries;
  std::int64_t keys;
  std::int64_t
      key_stride; ///< rows of k and v from one sequence to the next, of which the first `keys` are read
  std::int64_t key_width;   ///< numbers from one key to the next
  std::int64_t first_query; ///< place of the first query among the keys
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t width;
  float scale;
  bool is_causal;

  /// Where a team's queries lie, and their part of q, k, v and y.
  struct Place {
    std::int64_t sequence;
    std::int64_t head;
    std::int64_t first; ///< query of the sequence
    std::int64_t count;
    std::int64_t row;   ///< offset of the first query in q and y
    std::int64_t key_0; ///< offset of the sequence's first key in k and v
  };
  /// What a softmax has seen so far.
  struct Seen {
    float most[team_queries];
    double sum[team_queries];
  };

  [[nodiscard]] TENON_HD std::int64_t items_of_head() const {
    return (queries + team_queries - 1) / team_queries;
  }
  TENON_HD Place place(std::int64_t item) const {
    Place at{};
    at.sequence = item / (items_of_head() * heads);
    at.head = item / items_of_head() % heads;
    at.first = item % items_of_head() * team_queries;
    at.count = queries - at.first < team_queries ? queries - at.first : team_queries;
    at.row = ((at.sequence * queries + at.first) * heads + at.head) * width;
    at.key_0 = at.sequence * key_stride * key_width + at.head / (heads / kv_heads) * width;
    return at;
  }
  /// A masked key gets the lowest float, so that a row with every key masked averages all of them; one that is not there
  /// gets nothing.
  TENON_HD float score(const Place& at, std::int64_t query, std::int64_t key, float product) const {
    if (is_causal && key > first_query + query) return -std::numeric_limits<float>::infinity();
    if (mask != nullptr && mask[at.sequence * keys + key] == 0.0f)
      return std::numeric_limits<float>::lowest();
    const float biased =
        bias == nullptr ? 0.0f : bias[at.head * (queries + keys - 1) + key - query + queries - 1];
    return product * scale + biased;
  }

  /// The scores of keys [begin, begin + count) for all queries -> shared [team_queries, tile_keys]; their maxima.
  template <class Team>
  TENON_TEAM void multiply_keys(const Place& at, std::int64_t begin, std::int64_t count, float* most,
                                const Team& team) const {
    for (std::int64_t i = 0; i < team_queries; ++i) most[i] = std::numeric_limits<float>::lowest();
    for (std::int64_t j = team.lane(); j < count; j += team.lanes()) {
      const float* const key = k + at.key_0 + (begin + j) * key_width;
      float products[team_queries] = {};
      for (std::int64_t d = 0; d < width; ++d)
        for (std::int64_t i = 0; i < team_queries; ++i) // beyond the last query: it again
          products[i] += key[d] * q[at.row + (i < at.count ? i : at.count - 1) * heads * width + d];
      for (std::int64_t i = 0; i < team_queries; ++i) {
        const std::int64_t query = at.first + (i < at.count ? i : at.count - 1);
        const float one = score(at, query, begin + j, products[i]);
        team.shared[i * tile_keys + j] = one;
        most[i] = std::fmax(most[i], one);
      }
    }
  }
  /// Scores -> weights against the largest score so far; `fade`: what all that is summed so far is multiplied by.
  template <class Team>
  TENON_TEAM void weigh_keys(std::int64_t count, const float* most, Seen& seen, float* fade,
                             const Team& team) const {
    for (std::int64_t i = 0; i < team_queries; ++i) {
      const float before = seen.most[i];
      seen.most[i] = std::fmax(before, team.largest(most[i]));
      fade[i] = std::exp(before - seen.most[i]);
      double sum = 0;
      for (std::int64_t j = team.lane(); j < count; j += team.lanes()) {
        float& weight = team.shared[i * tile_keys + j];
        weight = std::exp(weight - seen.most[i]);
        sum += static_cast<double>(weight);
      }
      seen.sum[i] = seen.sum[i] * static_cast<double>(fade[i]) + sum;
    }
    team.meet();
  }
  /// y = y * fade + weights * values
  template <class Team>
  TENON_TEAM void add_values(const Place& at, std::int64_t begin, std::int64_t count, const float* fade,
                             const Team& team) const {
    for (std::int64_t d = team.lane(); d < width; d += team.lanes()) {
      float sums[team_queries] = {};
      for (std::int64_t j = 0; j < count; ++j) {
        const float value = v[at.key_0 + (begin + j) * key_width + d];
        for (std::int64_t i = 0; i < team_queries; ++i) sums[i] += team.shared[i * tile_keys + j] * value;
      }
      for (std::int64_t i = 0; i < at.count; ++i) {
        float& to = y[at.row + i * heads * width + d];
        to = begin == 0 ? sums[i] : to * fade[i] + sums[i];
      }
    }
    team.meet(); // before the next tile's scores take their place
  }

  template <class Team>
  TENON_TEAM void operator()(std::int64_t item, const Team& team) const {
    const Place at = place(item);
    Seen seen{};
    for (std::int64_t i = 0; i < team_queries; ++i) seen.most[i] = std::numeric_limits<float>::lowest();
    const std::int64_t last = first_query + at.first + at.count;
    const std::int64_t end = is_causal && last < keys ? last : keys;
    for (std::int64_t begin = 0; begin < end; begin += tile_keys) {
      const std::int64_t count = end - begin < tile_keys ? end - begin : tile_keys;
      float most[team_queries];
      float fade[team_queries];
      multiply_keys(at, begin, count, most, team);
      weigh_keys(count, most, seen, fade, team);
      add_values(at, begin, count, fade, team);
    }
    for (std::int64_t i = 0; i < at.count; ++i) {
      const auto inverse = static_cast<float>(1.0 / team.sum(seen.sum[i]));
      for (std::int64_t d = team.lane(); d < width; d += team.lanes())
        y[at.row + i * heads * width + d] *= inverse;
    }
  }
};

/// Tokens of each sequence.
[[nodiscard]] inline std::int64_t tokens_of(const WireView& x) noexcept { return x.rows() / x.extent(0); }

/// For the biases of so many keys as a KvCache may hold.
inline std::int64_t attention_step_scratch(const StepContext& context) {
  if (weight_at(context, 0).data == nullptr) return 0;
  const std::int64_t keys = std::max(tokens_of(context.inputs[1]), context.capacity);
  return DeviceScratch::rounded(context.params.integers[0] * (tokens_of(context.inputs[0]) + keys - 1) *
                                static_cast<std::int64_t>(sizeof(float)));
}

/// q [batch, ..., heads * width], k and v [batch, ..., kv heads * width] and, where given, a mask [batch, keys] of ones
/// and zeros -> as q. params.integers: query heads, kv heads, whether causal, whether unscaled, the relative bias's largest
/// distance; its table [buckets, heads] is the step's weight, if it has one. State: k and v of earlier calls.
inline void attention_step(const StepContext& context) {
  const WireView& q = context.inputs[0];
  const auto& params = context.params.integers;
  const std::int64_t heads = params[0];
  const std::int64_t width = q.width() / heads;
  const AttentionKeys keys = attention_keys(context);
  AttentionQueries attend{.q = q.values().data(),
                          .k = keys.k.data,
                          .v = keys.v.data,
                          .mask = context.inputs.size() > 3 ? context.inputs[3].values().data() : nullptr,
                          .bias = nullptr,
                          .y = context.output.values().data(),
                          .queries = tokens_of(q),
                          .keys = keys.count,
                          .key_stride = keys.stride,
                          .key_width = keys.k.stride,
                          .first_query = keys.first_query,
                          .heads = heads,
                          .kv_heads = params[1] == 0 ? heads : params[1], // as the host's
                          .width = width,
                          .scale = params[3] != 0 ? 1.0f : 1.0f / std::sqrt(static_cast<float>(width)),
                          .is_causal = params[2] != 0};
  gpu::Queue& queue = context.device->queue;
  if (context.state.data != nullptr) gpu::keep_keys(context);
  if (const TensorView table = weight_at(context, 0); table.data != nullptr) {
    const std::int64_t distances = attend.queries + attend.keys - 1;
    float* const biases = DeviceScratch(context.device->scratch).take<float>(heads * distances);
    const kernels::RelativeBias bias{weight_matrix(table), params[4], !attend.is_causal};
    for_each_index(queue, heads * distances,
                   RelativeBiasElement{bias, StoredVector(table), biases,
                                       1 - attend.first_query - attend.queries, distances});
    attend.bias = biases;
  }
  for_each_row(queue, q.extent(0) * heads * attend.items_of_head(), width, attend);
}

} // namespace tenon::gpu

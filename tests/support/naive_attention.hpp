// SPDX-License-Identifier: Apache-2.0
// Attention in float64, as kernels/attention.hpp describes it: what tests of the host's and of devices compare with.
#pragma once

#include <support/naive.hpp>

#include <tenon/kernels/attention.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace tenon::test {

/// Random q, k and v; rows of k and v that nobody may read are NaN.
struct AttentionInputs {
  AttentionInputs(kernels::AttentionShape s, std::int64_t dim, Place place = {})
      : shape(s), head_dim(dim), kv_heads(s.kv_heads == 0 ? s.heads : s.kv_heads),
        key_stride(s.key_stride == 0 ? s.keys : s.key_stride),
        q(s.batch * s.queries, s.heads * dim, 1, place), k(s.batch * key_stride, kv_heads * dim, 2, place),
        v(s.batch * key_stride, kv_heads * dim, 3, place) {
    for (std::int64_t row = 0; row < k.view.rows; ++row)
      if (row % key_stride >= s.keys)
        for (const kernels::Matrix m : {k.view, v.view})
          std::ranges::fill(m.row_span(row), std::numeric_limits<float>::quiet_NaN());
  }

  kernels::AttentionShape shape;
  std::int64_t head_dim, kv_heads, key_stride;
  FloatMatrix q, k, v;
};

/// The bucket of a key at `distance`, from the least distance of each bucket: 0, 1, 2 ... up to half of them, then
/// growing by one factor each up to `largest`.
[[nodiscard]] inline std::int64_t exact_bucket(std::int64_t distance, std::int64_t buckets, double largest,
                                               bool is_bidirectional) {
  const std::int64_t count = is_bidirectional ? buckets / 2 : buckets;
  const std::int64_t base = is_bidirectional && distance > 0 ? count : 0;
  const std::int64_t size = is_bidirectional ? std::abs(distance) : std::max<std::int64_t>(-distance, 0);
  const std::int64_t half = count / 2;
  const auto start = [&](std::int64_t bucket) {
    if (bucket <= half) return static_cast<double>(bucket);
    return static_cast<double>(half) *
           std::pow(largest / static_cast<double>(half),
                    static_cast<double>(bucket - half) / static_cast<double>(count - half));
  };
  std::int64_t bucket = 0;
  while (bucket + 1 < count && static_cast<double>(size) >= start(bucket + 1) - 1e-9) ++bucket;
  return base + bucket;
}

/// Query `row` (of all) against its sequence's keys, in one head: the weights that sum to one; `bias` is the relative
/// bias's table, if there is one.
[[nodiscard]] inline std::vector<double> exact_weights(const AttentionInputs& in, std::span<const float> mask,
                                                       const StoredMatrix* bias, std::int64_t row,
                                                       std::int64_t head) {
  const kernels::AttentionShape& shape = in.shape;
  const std::int64_t sequence = row / shape.queries;
  const std::int64_t place = shape.first_query + row % shape.queries;
  const std::int64_t kv_head = head / (shape.heads / in.kv_heads);
  const double scale =
      shape.scale != 0 ? static_cast<double>(shape.scale) : 1 / std::sqrt(static_cast<double>(in.head_dim));
  const std::int64_t end = shape.is_causal ? std::min(shape.keys, place + 1) : shape.keys;
  const auto kept = [&](std::int64_t key) {
    return mask.empty() || mask[static_cast<std::size_t>(sequence * shape.keys + key)] != 0;
  };
  bool any = false;
  for (std::int64_t key = 0; key < end; ++key) any = any || kept(key);
  std::vector<double> weights(static_cast<std::size_t>(shape.keys));
  double sum = 0;
  for (std::int64_t key = 0; key < end; ++key) {
    double score = 0;
    for (std::int64_t d = 0; d < in.head_dim; ++d)
      score +=
          in.q(row, head * in.head_dim + d) * in.k(sequence * in.key_stride + key, kv_head * in.head_dim + d);
    score *= scale;
    if (bias != nullptr)
      score +=
          (*bias)(exact_bucket(key - place, bias->view.rows, static_cast<double>(shape.bias.max_distance),
                               shape.bias.is_bidirectional),
                  head);
    const double weight = !any ? 1 : kept(key) ? std::exp(score) : 0;
    weights[static_cast<std::size_t>(key)] = weight;
    sum += weight;
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

[[nodiscard]] inline Twin exact_attention(const AttentionInputs& in, std::span<const float> mask,
                                          const StoredMatrix* bias = nullptr) {
  Twin twin(in.q.view.rows, in.q.view.cols);
  for (std::int64_t row = 0; row < twin.rows; ++row)
    for (std::int64_t head = 0; head < in.shape.heads; ++head) {
      const std::int64_t first_key = row / in.shape.queries * in.key_stride;
      const std::int64_t first_value = head / (in.shape.heads / in.kv_heads) * in.head_dim;
      const std::vector<double> weights = exact_weights(in, mask, bias, row, head);
      for (std::int64_t d = 0; d < in.head_dim; ++d)
        for (std::int64_t key = 0; key < in.shape.keys; ++key) {
          const double term = weights[static_cast<std::size_t>(key)] * in.v(first_key + key, first_value + d);
          twin.add(row, head * in.head_dim + d, term, std::abs(term));
        }
    }
  return twin;
}

/// The roundings of a score (a scaled sum of head_dim products, each below 1, and perhaps a bias below 1), of exp, and
/// of the sum over keys.
[[nodiscard]] inline double attention_tolerance(const AttentionInputs& in) {
  const auto dim = static_cast<double>(in.head_dim);
  const double scale = in.shape.scale != 0 ? static_cast<double>(in.shape.scale) : 1 / std::sqrt(dim);
  return 2 * dim * dim * scale + static_cast<double>(in.shape.keys) + 16;
}

} // namespace tenon::test

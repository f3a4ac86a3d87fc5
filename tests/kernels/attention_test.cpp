// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/attention.hpp>

#include <support/allocation_probe.hpp>
#include <support/naive.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

using namespace tenon::kernels;
using namespace tenon::test;

namespace {

struct Inputs {
  Inputs(AttentionShape s, std::int64_t dim, Place place = {})
      : shape(s), head_dim(dim), q(s.batch * s.queries, s.heads * dim, 1, place),
        k(s.batch * s.keys, s.heads * dim, 2, place), v(s.batch * s.keys, s.heads * dim, 3, place) {}

  AttentionShape shape;
  std::int64_t head_dim;
  FloatMatrix q, k, v;
};

FloatMatrix attend(const Inputs& in, std::span<const float> mask, Place place = {}) {
  FloatMatrix out(in.q.view.rows, in.q.view.cols, 4, place);
  const ExactScratch room(attention_scratch_bytes(in.shape.queries, in.shape.keys, in.head_dim));
  attention(in.q.view, in.k.view, in.v.view, mask, in.shape, out.view, room.scratch());
  CHECK((room.guard_untouched() && out.padding_untouched()));
  return out;
}

/// One query against one sequence's keys, in one head: the weights that sum to one.
std::vector<double> exact_weights(const Inputs& in, std::span<const float> mask, std::int64_t row,
                                  std::int64_t first_key, std::int64_t head) {
  std::vector<double> weights;
  const auto kept = [&](std::int64_t key) {
    return mask.empty() || mask[static_cast<std::size_t>(key)] != 0;
  };
  bool any = false;
  for (std::int64_t key = first_key; key < first_key + in.shape.keys; ++key) any = any || kept(key);
  double sum = 0;
  for (std::int64_t key = first_key; key < first_key + in.shape.keys; ++key) {
    double score = 0;
    for (std::int64_t d = head * in.head_dim; d < (head + 1) * in.head_dim; ++d)
      score += in.q(row, d) * in.k(key, d);
    const double weight = !any        ? 1
                          : kept(key) ? std::exp(score / std::sqrt(static_cast<double>(in.head_dim)))
                                      : 0;
    weights.push_back(weight);
    sum += weight;
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

Twin exact_attention(const Inputs& in, std::span<const float> mask) {
  Twin twin(in.q.view.rows, in.q.view.cols);
  for (std::int64_t row = 0; row < twin.rows; ++row)
    for (std::int64_t head = 0; head < in.shape.heads; ++head) {
      const std::int64_t first_key = row / in.shape.queries * in.shape.keys;
      const std::vector<double> weights = exact_weights(in, mask, row, first_key, head);
      for (std::int64_t d = head * in.head_dim; d < (head + 1) * in.head_dim; ++d)
        for (std::int64_t key = 0; key < in.shape.keys; ++key) {
          const double term = weights[static_cast<std::size_t>(key)] * in.v(first_key + key, d);
          twin.add(row, d, term, std::abs(term));
        }
    }
  return twin;
}

/// The roundings of a score (a sum of head_dim products, each below 1), of exp, and of the sum over keys.
double tolerance(const Inputs& in) {
  const auto dim = static_cast<double>(in.head_dim);
  return 2 * dim * std::sqrt(dim) + static_cast<double>(in.shape.keys) + 16;
}

} // namespace

TEST_CASE("Attention agrees with float64 for all numbers of tokens and heads") {
  for (const std::int64_t tokens : {std::int64_t{1}, std::int64_t{7}, attention_tile, attention_tile + 1})
    for (const std::int64_t heads : {1, 3})
      for (const std::int64_t dim : {1, 5, 32}) {
        const Inputs in({.batch = 2, .queries = tokens, .keys = tokens, .heads = heads}, dim, {.padding = 3});
        INFO(tokens, " ", heads, " ", dim);
        CHECK(error_in_units(attend(in, {}, {.padding = 1}).view, exact_attention(in, {})) <= tolerance(in));
      }
}

TEST_CASE("Queries may attend to a sequence of another length") {
  const Inputs in({.batch = 3, .queries = 5, .keys = 11, .heads = 2}, 4);
  CHECK(error_in_units(attend(in, {}).view, exact_attention(in, {})) <= tolerance(in));
}

TEST_CASE("Masked keys have no influence and a sequence with none left is averaged") {
  Inputs in({.batch = 2, .queries = 6, .keys = 6, .heads = 2}, 8);
  const std::vector<float> mask{1, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0};
  const FloatMatrix out = attend(in, mask);
  CHECK(error_in_units(out.view, exact_attention(in, mask)) <= tolerance(in));

  std::fill_n(in.k.view.row(2), in.k.view.cols, 100.0f); // a masked key and its value, changed
  std::fill_n(in.v.view.row(4), in.v.view.cols, -100.0f);
  CHECK(same_bits(attend(in, mask).view, out.view));
}

TEST_CASE("The bits of attention do not depend on addresses") {
  const AttentionShape shape{.batch = 2, .queries = 21, .keys = 21, .heads = 3};
  const std::vector<float> mask(42, 1.0f);
  const FloatMatrix out = attend(Inputs(shape, 7), mask);
  CHECK(
      same_bits(attend(Inputs(shape, 7, {.shift = 4, .padding = 2}), mask, {.shift = 20, .padding = 1}).view,
                out.view));
  CHECK(same_bits(attend(Inputs(shape, 7), {}).view, out.view)); // a mask that keeps all is no mask
}

TEST_CASE("Attention allocates nothing and its scratch is linear in the number of keys") {
  static_assert(attention_scratch_bytes(1 << 20, 1 << 20, 64) < (std::int64_t{1} << 20) * 300);
  const Inputs in({.batch = 1, .queries = 100, .keys = 100, .heads = 2}, 16);
  FloatMatrix out(100, 32, 4);
  const ExactScratch room(attention_scratch_bytes(100, 100, 16));
  const AllocationProbe probe;
  attention(in.q.view, in.k.view, in.v.view, {}, in.shape, out.view, room.scratch());
  const auto taken = probe.count();
  CHECK(taken == 0);
}

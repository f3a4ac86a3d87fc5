// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/attention.hpp>

#include <support/allocation_probe.hpp>
#include <support/naive_attention.hpp>
#include <support/team.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <vector>

using namespace tenon::kernels;
using namespace tenon::test;

namespace {

FloatMatrix attend(const AttentionInputs& in, std::span<const float> mask, Place place = {}) {
  FloatMatrix out(in.q.view.rows, in.q.view.cols, 4, place);
  const ExactScratch room(attention_scratch_bytes(in.shape.queries, in.shape.keys, in.head_dim));
  attention(in.q.view, in.k.view, in.v.view, mask, in.shape, out.view, room.scratch());
  CHECK((room.guard_untouched() && out.padding_untouched()));
  return out;
}

void check_exact(const AttentionInputs& in, std::span<const float> mask = {},
                 const StoredMatrix* bias = nullptr) {
  CHECK(error_in_units(attend(in, mask, {.padding = 1}).view, exact_attention(in, mask, bias)) <=
        attention_tolerance(in));
}

} // namespace

TEST_CASE("Attention agrees with float64 for all numbers of tokens and heads") {
  for (const std::int64_t tokens : {std::int64_t{1}, std::int64_t{7}, attention_tile, attention_tile + 1})
    for (const std::int64_t heads : {1, 3})
      for (const std::int64_t dim : {1, 5, 32}) {
        const AttentionInputs in({.batch = 2, .queries = tokens, .keys = tokens, .heads = heads}, dim,
                                 {.padding = 3});
        INFO(tokens, " ", heads, " ", dim);
        CHECK(error_in_units(attend(in, {}, {.padding = 1}).view, exact_attention(in, {})) <=
              attention_tolerance(in));
      }
}

TEST_CASE("Queries may attend to a sequence of another length") {
  const AttentionInputs in({.batch = 3, .queries = 5, .keys = 11, .heads = 2}, 4);
  CHECK(error_in_units(attend(in, {}).view, exact_attention(in, {})) <= attention_tolerance(in));
}

TEST_CASE("Masked keys have no influence and a sequence with none left is averaged") {
  AttentionInputs in({.batch = 2, .queries = 6, .keys = 6, .heads = 2}, 8);
  const std::vector<float> mask{1, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0};
  const FloatMatrix out = attend(in, mask);
  CHECK(error_in_units(out.view, exact_attention(in, mask)) <= attention_tolerance(in));

  std::fill_n(in.k.view.row(2), in.k.view.cols, 100.0f); // a masked key and its value, changed
  std::fill_n(in.v.view.row(4), in.v.view.cols, -100.0f);
  CHECK(same_bits(attend(in, mask).view, out.view));
}

TEST_CASE("The bits of attention do not depend on addresses") {
  const AttentionShape shape{.batch = 2, .queries = 21, .keys = 21, .heads = 3};
  const std::vector<float> mask(42, 1.0f);
  const FloatMatrix out = attend(AttentionInputs(shape, 7), mask);
  CHECK(same_bits(
      attend(AttentionInputs(shape, 7, {.shift = 4, .padding = 2}), mask, {.shift = 20, .padding = 1}).view,
      out.view));
  CHECK(same_bits(attend(AttentionInputs(shape, 7), {}).view, out.view)); // a mask that keeps all is no mask
}

TEST_CASE("Attention allocates nothing and its scratch is linear in the number of keys") {
  static_assert(attention_scratch_bytes(1 << 20, 1 << 20, 64) < (std::int64_t{1} << 20) * 300);
  const AttentionInputs in({.batch = 1, .queries = 100, .keys = 100, .heads = 2}, 16);
  FloatMatrix out(100, 32, 4);
  const ExactScratch room(attention_scratch_bytes(100, 100, 16));
  const AllocationProbe probe;
  attention(in.q.view, in.k.view, in.v.view, {}, in.shape, out.view, room.scratch());
  const auto taken = probe.count();
  CHECK(taken == 0);
}

TEST_CASE("Groups of query heads share keys and values") {
  for (const std::int64_t kv_heads : {1, 2, 3, 6}) {
    const AttentionInputs in({.batch = 2, .queries = 9, .keys = 7, .heads = 6, .kv_heads = kv_heads}, 8,
                             {.padding = 2});
    CAPTURE(kv_heads);
    check_exact(in);
  }
}

TEST_CASE("A causal query reads the keys up to its own place, also beyond a tile") {
  for (const std::int64_t tokens :
       {std::int64_t{1}, std::int64_t{5}, attention_tile, attention_tile + 1, 2 * attention_tile + 2}) {
    AttentionInputs in(
        {.batch = 2, .queries = tokens, .keys = tokens, .heads = 2, .kv_heads = 1, .is_causal = true}, 6);
    CAPTURE(tokens);
    check_exact(in);
    const FloatMatrix before = attend(in, {});
    if (tokens == 1) continue;
    std::ranges::fill(in.k.view.row_span(tokens - 1), 3.0f); // the first sequence's last key and value
    std::ranges::fill(in.v.view.row_span(tokens - 1), -7.0f);
    const FloatMatrix after = attend(in, {});
    const auto rows = [](const FloatMatrix& m, std::int64_t first, std::int64_t count) {
      return ConstMatrix(m.view).rows_from(first, count);
    };
    CHECK(same_bits(rows(before, 0, tokens - 1), rows(after, 0, tokens - 1)));
    CHECK_FALSE(same_bits(rows(before, tokens - 1, 1), rows(after, tokens - 1, 1)));
    CHECK(same_bits(rows(before, tokens, tokens), rows(after, tokens, tokens)));
  }
}

TEST_CASE("Queries may go on where a cache of keys ends, whose rows are further apart than its keys") {
  for (const std::int64_t queries :
       {std::int64_t{1}, std::int64_t{4}, attention_tile + 1, 2 * attention_tile + 2})
    for (const bool is_causal : {true, false}) {
      const std::int64_t past = 11;
      const AttentionInputs in({.batch = 3,
                                .queries = queries,
                                .keys = past + queries,
                                .heads = 4,
                                .kv_heads = 2,
                                .key_stride = past + queries + 5,
                                .first_query = past,
                                .is_causal = is_causal},
                               5, {.padding = 1});
      CAPTURE(queries);
      CAPTURE(is_causal);
      check_exact(in);
    }
}

TEST_CASE("Tokens one at a time give what all of them at once give") {
  const std::int64_t tokens = 2 * attention_tile + 2;
  const AttentionInputs in({.batch = 1, .queries = tokens, .keys = tokens, .heads = 2, .is_causal = true}, 4);
  const Twin exact = exact_attention(in, {});
  FloatMatrix out(tokens, 8, 4);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const ExactScratch room(attention_scratch_bytes(1, t + 1, 4));
    attention(
        in.q.view.rows_from(t, 1), in.k.view, in.v.view, {},
        {.queries = 1, .keys = t + 1, .heads = 2, .key_stride = tokens, .first_query = t, .is_causal = true},
        out.view.rows_from(t, 1), room.scratch());
    CHECK(room.guard_untouched());
  }
  CHECK(error_in_units(out.view, exact) <= attention_tolerance(in));
}

TEST_CASE("A causal query whose keys are all masked averages those that it may read") {
  const AttentionInputs in({.batch = 2, .queries = 6, .keys = 6, .heads = 2, .is_causal = true}, 8);
  check_exact(in, std::vector<float>{0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0});
}

TEST_CASE("A scale of its own takes the place of one over the root of the head's width") {
  for (const float scale : {1.0f, 0.125f, -0.5f}) {
    const AttentionInputs in({.batch = 1, .queries = 70, .keys = 13, .heads = 2, .scale = scale}, 6);
    CAPTURE(scale);
    CHECK(error_in_units(attend(in, {}).view, exact_attention(in, {})) <=
          2 * 36 * std::abs(static_cast<double>(scale)) + 13 + 16);
  }
}

TEST_CASE("T5's distances fall into the buckets of its reference") {
  // 32 buckets up to 128 in both directions: the least distance of each, as transformers computes them
  const StoredMatrix table(32, 1, tenon::DType::f32, 1);
  const RelativeBias both{.table = table.view};
  const std::int64_t starts[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91, 1000};
  for (std::int64_t bucket = 0; bucket < 16; ++bucket)
    for (std::int64_t size = starts[bucket]; size < starts[bucket + 1]; ++size) {
      CAPTURE(size);
      CHECK(both.bucket(-size) == bucket);
      CHECK(both.bucket(size) == (size == 0 ? 0 : bucket + 16));
      CHECK(exact_bucket(-size, 32, 128, true) == bucket);
    }
  const RelativeBias behind{.table = table.view, .max_distance = 20, .is_bidirectional = false};
  for (std::int64_t size = 0; size < 40; ++size) {
    CHECK(behind.bucket(-size) == exact_bucket(-size, 32, 20, false));
    CHECK(behind.bucket(size) == 0);
  }
}

TEST_CASE("A relative bias is added to each score by head and distance") {
  for (const tenon::DType type : weight_dtypes)
    for (const bool is_causal : {false, true})
      for (const std::int64_t queries : {std::int64_t{1}, std::int64_t{9}, 2 * attention_tile + 2}) {
        const StoredMatrix table(12, 4, type, 9, {.shift = 2, .padding = 1});
        AttentionShape shape{.batch = 2,
                             .queries = queries,
                             .keys = queries + 3,
                             .heads = 4,
                             .kv_heads = 2,
                             .is_causal = is_causal,
                             .scale = 1.0f};
        if (is_causal) shape.first_query = 3;
        shape.bias = {.table = table.view, .max_distance = 30, .is_bidirectional = !is_causal};
        const AttentionInputs in(shape, 4);
        CAPTURE(is_causal);
        CAPTURE(queries);
        check_exact(in, {}, &table);
      }
}

TEST_CASE("A masked key stays masked whatever its bias") {
  StoredMatrix table(8, 2, tenon::DType::f32, 9);
  AttentionShape shape{.batch = 1, .queries = 5, .keys = 5, .heads = 2};
  shape.bias = {.table = table.view, .max_distance = 16};
  check_exact(AttentionInputs(shape, 4), std::vector<float>{1, 0, 1, 1, 0}, &table);
}

TEST_CASE("Grouped causal attention with a bias has the same bits with any number of threads") {
  const StoredMatrix table(32, 6, tenon::DType::bf16, 9);
  AttentionShape shape{.batch = 2, .queries = 130, .keys = 130, .heads = 6, .kv_heads = 3, .is_causal = true};
  shape.bias = {.table = table.view, .is_bidirectional = false};
  const AttentionInputs in(shape, 16);
  const FloatMatrix alone = attend(in, {});
  for (const int threads : {2, 3, 5}) {
    Team team(threads, attention_scratch_bytes(130, 130, 16));
    FloatMatrix out(in.q.view.rows, in.q.view.cols, 4);
    attention(in.q.view, in.k.view, in.v.view, {}, shape, out.view, team.workers);
    CAPTURE(threads);
    CHECK(same_bits(out.view, alone.view));
  }
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "support/step_case.hpp"

#include <tenon/layers/attention.hpp>

using namespace tenon;
using namespace tenon::test;

namespace {

struct Case {
  std::int64_t batch = 2, queries = 5, keys = 5, heads = 2, kv_heads = 2, width = 8;
  bool is_causal = false, is_unscaled = false;
};

StepCase attention_of(const Case& c) {
  StepCase one;
  one.input({c.batch, c.queries, c.heads * c.width}, 2)
      .input({c.batch, c.keys, c.kv_heads * c.width}, 2)
      .input({c.batch, c.keys, c.kv_heads * c.width}, 2)
      .output({c.batch, c.queries, c.heads * c.width});
  one.context.params.integers = {c.heads, c.kv_heads, c.is_causal ? 1 : 0, c.is_unscaled ? 1 : 0, 0};
  return one;
}

void check(StepCase& one) {
  CHECK(difference(one.on_device("Attention"), one.on_host(&attention_step)) <= device_tolerance);
}

/// Ones and zeros; sequence 1 has no key that is kept.
std::vector<float> mask_of(const Case& c) {
  std::vector<float> mask;
  for (std::int64_t i = 0; i < c.batch * c.keys; ++i)
    mask.push_back(i / c.keys == 1 || i % 3 == 1 ? 0.0f : 1.0f);
  return mask;
}

} // namespace

TEST_CASE(
    "Attention on a device is the host's: any numbers of queries and keys, heads of any width up to 256") {
  for (const std::int64_t width : {1, 20, 64, 256}) {
    for (const std::int64_t queries : {1, 3, 4, 6})
      for (const std::int64_t keys : {1, 7, 255, 256, 300}) {
        CAPTURE(width);
        CAPTURE(queries);
        CAPTURE(keys);
        StepCase one = attention_of({.queries = queries, .keys = keys, .width = width});
        check(one);
      }
  }
}

TEST_CASE(
    "Attention on a device takes shared heads, causal queries, plain products and a mask, all together") {
  for (const std::int64_t kv_heads : {1, 2, 6})
    for (const bool is_causal : {false, true})
      for (const bool is_unscaled : {false, true})
        for (const bool is_masked : {false, true})
          for (const std::int64_t tokens : {5, 261}) {
            CAPTURE(kv_heads);
            CAPTURE(is_causal);
            CAPTURE(is_masked);
            CAPTURE(tokens);
            const Case c{.queries = tokens,
                         .keys = tokens,
                         .heads = 6,
                         .kv_heads = kv_heads,
                         .width = 4,
                         .is_causal = is_causal,
                         .is_unscaled = is_unscaled};
            StepCase one = attention_of(c);
            if (is_masked) one.input({c.batch, c.keys}, mask_of(c));
            check(one);
          }
}

TEST_CASE("A device's attention of a sequence with every key masked averages all of them") {
  const Case c{.batch = 2, .queries = 3, .keys = 300, .heads = 1, .kv_heads = 1, .width = 2};
  StepCase one = attention_of(c);
  one.input({c.batch, c.keys}, mask_of(c));
  const std::vector<float> y = one.on_device("Attention");
  const std::span<const float> v = one.context.inputs[2].values();
  double mean = 0;
  for (std::size_t key = 0; key < 300; ++key) mean += static_cast<double>(v[600 + 2 * key]) / 300;
  for (const std::size_t query : {3u, 4u, 5u})
    CHECK(std::abs(static_cast<double>(y[2 * query]) - mean) < device_tolerance);
}

TEST_CASE(
    "Attention on a device has T5's relative bias, both ways and causal, with a table of any stored type") {
  for (const DType dtype : weight_dtypes)
    for (const bool is_causal : {false, true})
      for (const std::int64_t tokens : {1, 9, 270}) {
        CAPTURE(is_causal);
        CAPTURE(tokens);
        StepCase one = attention_of({.queries = tokens,
                                     .keys = tokens,
                                     .heads = 3,
                                     .kv_heads = 3,
                                     .is_causal = is_causal,
                                     .is_unscaled = true});
        one.weight(dtype, {16, 3});
        one.context.params.integers[4] = 40;
        check(one);
      }
  StepCase cross = attention_of({.queries = 3, .keys = 11});
  cross.weight(DType::f32, {8, 2});
  cross.context.params.integers[4] = 20;
  check(cross);
}

TEST_CASE("A device's attention does not lose its way where scores grow from tile to tile") {
  StepCase one;
  constexpr std::int64_t keys = 1000;
  std::vector<float> k;
  for (int i = 0; i < keys; ++i) k.push_back(static_cast<float>(i) * 0.5f);
  one.input({1, 1, 1}, std::vector<float>{1}).input({1, keys, 1}, k).input({1, keys, 1}).output({1, 1, 1});
  one.context.params.integers = {1, 1, 0, 0, 0};
  check(one);
}

TEST_CASE(
    "A device's attention with no number for the heads of keys takes that of the queries, as the host's") {
  StepCase one = attention_of({});
  one.context.params.integers[1] = 0;
  check(one);
}

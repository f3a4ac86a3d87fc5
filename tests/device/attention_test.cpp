// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "support/naive_attention.hpp"
#include "support/step_case.hpp"

#include <tenon/layers/attention.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

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

/// Of every sequence the last `shape.queries` of its keys as a call's own, those before in a state with `spare` more rows.
struct CallAfterOthers {
  AttentionInputs in;
  std::int64_t past;
  std::int64_t capacity;
  std::int64_t width; ///< of k's rows, and of v's
  std::vector<float> k{}, v{}, y{}, state{};
  std::vector<WireView> wires{};
  std::vector<TensorView> weights{};
  StepContext context{};

  CallAfterOthers(const kernels::AttentionShape& shape, std::int64_t head_width, std::int64_t spare,
                  const StoredMatrix* bias = nullptr)
      : in(shape, head_width), past(shape.first_query), capacity(shape.keys + spare),
        width(in.kv_heads * head_width), y(static_cast<std::size_t>(in.q.view.rows * in.q.view.cols)),
        state(static_cast<std::size_t>(shape.batch * capacity * 2 * width),
              std::numeric_limits<float>::quiet_NaN()) {
    for (std::int64_t row = 0; row < shape.batch * shape.keys; ++row) {
      const std::span<const float> key = in.k.view.row_span(row);
      const std::span<const float> value = in.v.view.row_span(row);
      if (row % shape.keys < past) {
        std::ranges::copy(key, kept(row / shape.keys, row % shape.keys));
        std::ranges::copy(value, kept(row / shape.keys, row % shape.keys) + width);
      } else {
        k.insert(k.end(), key.begin(), key.end());
        v.insert(v.end(), value.begin(), value.end());
      }
    }
    const auto wire = [&](float* data, std::int64_t columns) {
      wires.push_back({.data = reinterpret_cast<std::byte*>(data),
                       .rank = 3,
                       .extents = {shape.batch, shape.queries, columns}});
    };
    wire(in.q.view.data, in.q.view.cols);
    wire(k.data(), width);
    wire(v.data(), width);
    wire(y.data(), in.q.view.cols);
    if (bias != nullptr)
      weights.emplace_back(bias->view.data, bias->view.dtype,
                           std::array<std::int64_t, 2>{bias->view.rows, bias->view.cols});
    context.inputs = std::span(wires).first(3);
    context.output = wires[3];
    context.weights = weights;
    context.state = {state.data(), shape.batch, capacity, 2 * width};
    context.past = past;
    context.capacity = capacity;
    context.params.integers = {shape.heads, shape.kv_heads, 1, shape.scale != 0 ? 1 : 0,
                               shape.bias.max_distance};
  }
  [[nodiscard]] float* kept(std::int64_t sequence, std::int64_t token) {
    return state.data() + (sequence * capacity + token) * 2 * width;
  }

  /// The step's result against float64; and what the state has then.
  void check(const StoredMatrix* bias = nullptr) {
    CHECK(run_on_device("Attention", context) == 0);
    const kernels::ConstMatrix got{y.data(), in.q.view.rows, in.q.view.cols, in.q.view.cols};
    CHECK(error_in_units(got, exact_attention(in, {}, bias)) <= attention_tolerance(in));
    bool holds_all = true;
    bool is_else_untouched = true;
    for (std::int64_t i = 0; i < in.shape.batch * capacity; ++i) {
      const std::int64_t token = i % capacity;
      const std::int64_t row = i / capacity * in.shape.keys + token;
      for (std::int64_t d = 0; d < width; ++d) {
        const float key = kept(i / capacity, token)[d];
        const float value = kept(i / capacity, token)[width + d];
        if (token < in.shape.keys)
          holds_all = holds_all && key == in.k.view.row(row)[d] && value == in.v.view.row(row)[d];
        else
          is_else_untouched = is_else_untouched && std::isnan(key) && std::isnan(value);
      }
    }
    CHECK(holds_all);
    CHECK(is_else_untouched);
  }
};

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

TEST_CASE("Queries on a device go on where a cache of keys ends, to which theirs are added") {
  for (const std::int64_t past : {0, 1, 11, 255, 256, 300})
    for (const std::int64_t queries : {1, 3, 4, 9, 260})
      for (const std::int64_t kv_heads : {1, 2, 4}) {
        CAPTURE(past);
        CAPTURE(queries);
        CAPTURE(kv_heads);
        CallAfterOthers({.batch = 2,
                         .queries = queries,
                         .keys = past + queries,
                         .heads = 4,
                         .kv_heads = kv_heads,
                         .first_query = past,
                         .is_causal = true},
                        5, past % 3)
            .check();
      }
}

TEST_CASE("A device's relative bias of a query behind a cache is that of its distance to each key") {
  for (const DType dtype : weight_dtypes)
    for (const std::int64_t past : {0, 2, 40, 300})
      for (const std::int64_t queries : {1, 6}) {
        CAPTURE(dtype_name(dtype));
        CAPTURE(past);
        CAPTURE(queries);
        const StoredMatrix table(12, 4, dtype, 9);
        kernels::AttentionShape shape{.batch = 2,
                                      .queries = queries,
                                      .keys = past + queries,
                                      .heads = 4,
                                      .kv_heads = 2,
                                      .first_query = past,
                                      .is_causal = true,
                                      .scale = 1.0f};
        shape.bias = {.table = table.view, .max_distance = 30, .is_bidirectional = false};
        CallAfterOthers(shape, 4, 7, &table).check(&table);
      }
}

TEST_CASE("A device's attention with a mask and a cache is refused before anything is written") {
  CallAfterOthers c({.queries = 2, .keys = 5, .kv_heads = 1, .first_query = 3, .is_causal = true}, 4, 0);
  std::vector<float> mask(2, 1.0f);
  c.wires.insert(c.wires.begin() + 3,
                 WireView{.data = reinterpret_cast<std::byte*>(mask.data()), .rank = 2, .extents = {1, 2}});
  c.context.inputs = std::span(c.wires).first(4);
  CHECK_THROWS_WITH_AS((void)run_on_device("Attention", c.context),
                       "Attention: a mask cannot be given together with a KvCache", error);
}

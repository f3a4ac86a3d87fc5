// SPDX-License-Identifier: Apache-2.0
// Attention on a device in a call with a cache of keys and values, against float64.
#include <doctest/doctest.h>

#include "support/device_step.hpp"
#include "support/naive_attention.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

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

// SPDX-License-Identifier: Apache-2.0
// Choosing, adding and joining whole tokens on a device (layers/tokens.hpp, layers/join.hpp): LastToken, TokenAt,
// PrependToken, AddTable; JoinTokens, JoinChannels, FirstTokens, LastTokens. One read, one write.
#pragma once

#include <tenon/gpu/step_weights.hpp>
#include <tenon/gpu/table_rows.hpp>

#include <cstdint>

namespace tenon::gpu {

/// Runs of x from `first` on, as long as y's: y [count, size], x [count, stride].
struct TakeRunsElement {
  const float* x;
  float* y;
  std::int64_t size;
  std::int64_t stride;
  std::int64_t first;
  TENON_HD void operator()(std::int64_t i) const { y[i] = x[i / size * stride + first + i % size]; }
};

/// The last token of each sequence: [batch, tokens, d] -> [batch, d].
inline void last_token_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const std::int64_t stride = x.size() / x.extent(0);
  for_each_index(context.device->queue, context.output.size(),
                 TakeRunsElement{x.values().data(), context.output.values().data(), x.width(), stride,
                                 stride - x.width()});
}

/// Sequences: all dimensions before the last two.
[[nodiscard]] inline std::int64_t sequences_of(const WireView& x) noexcept {
  return x.rank < 3 ? 1 : x.rows() / x.extent(x.rank - 2);
}

/// Of x [batch, n, d] as many tokens as the output has. params.integers[0]: 1 for the last.
inline void take_tokens_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const WireView& y = context.output;
  const std::int64_t count = sequences_of(y);
  const std::int64_t first = context.params.integers[0] != 0 ? (x.size() - y.size()) / count : 0;
  for_each_index(
      context.device->queue, y.size(),
      TakeRunsElement{x.values().data(), y.values().data(), y.size() / count, x.size() / count, first});
}

struct TokenAtElement {
  const float* x;
  const std::int32_t* ids;
  float* y;
  std::int64_t tokens;
  std::int64_t width;
  std::int64_t wanted; ///< negative: the largest
  std::int32_t* fault;
  std::int32_t number;
  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t begin = i / width * tokens;
    std::int64_t found = begin;
    for (std::int64_t t = begin; t < begin + tokens && (wanted < 0 || ids[found] != wanted); ++t)
      if (wanted < 0 ? ids[t] > ids[found] : ids[t] == wanted) found = t;
    if (wanted >= 0 && ids[found] != wanted) report_fault(fault, number);
    y[i] = x[found * width + i % width];
  }
};

/// The first token with an id (params.integers[0]), or with the largest (-1): x [batch, tokens, d], ids [batch, tokens] ->
/// [batch, d]. Where there is none, the run's fault and token 0.
inline void token_at_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  for_each_index(context.device->queue, context.output.size(),
                 TokenAtElement{x.values().data(), context.inputs[1].ids().data(),
                                context.output.values().data(), x.extent(1), x.width(),
                                context.params.integers[0], context.device->fault, context.number});
}

/// y [count, a + b]: runs of a, then those of b; where a has no data, `token` in each.
struct JoinRunsElement {
  const float* a;
  StoredVector token;
  const float* b;
  float* y;
  std::int64_t a_size;
  std::int64_t b_size;
  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t run = i / (a_size + b_size);
    const std::int64_t at = i % (a_size + b_size);
    if (at >= a_size)
      y[i] = b[run * b_size + at - a_size];
    else
      y[i] = a == nullptr ? token[at] : a[run * a_size + at];
  }
};

inline void join_runs(const StepContext& context, std::int64_t count) {
  const WireView& a = context.inputs[0];
  const WireView& b = context.inputs[1];
  for_each_index(context.device->queue, context.output.size(),
                 JoinRunsElement{a.values().data(), StoredVector(), b.values().data(),
                                 context.output.values().data(), a.size() / count, b.size() / count});
}
/// a [batch, n, d], then b [batch, m, d] -> [batch, n + m, d].
inline void join_tokens_step(const StepContext& context) { join_runs(context, sequences_of(context.output)); }
/// a [..., n] and b [..., m] -> [..., n + m].
inline void join_channels_step(const StepContext& context) { join_runs(context, context.output.rows()); }

/// The weight [1, 1, d] before the others: [batch, n, d] -> [batch, n + 1, d].
inline void prepend_token_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  for_each_index(context.device->queue, context.output.size(),
                 JoinRunsElement{nullptr, StoredVector(context.weights[0]), x.values().data(),
                                 context.output.values().data(), x.width(), x.size() / x.extent(0)});
}

/// x [batch, count, d] + table [1, count, d] -> as x.
inline void add_table_step(const StepContext& context) {
  add_table_rows(context, {.width = context.weights[0].size() / context.inputs[0].width()});
}

} // namespace tenon::gpu

// SPDX-License-Identifier: Apache-2.0
// Writing a call's keys and values on a device behind those that a KvCache has there (layers/attention_keys.hpp): one
// read, one write.
#pragma once

#include <tenon/gpu/device_run.hpp>
#include <tenon/layers/attention_keys.hpp>

#include <cstdint>

namespace tenon::gpu {

/// Item: a number of a token's k, or, behind them, of its v.
struct KeepKeysElement {
  const float* k; ///< [sequences * tokens, half of the state's width], as v
  const float* v;
  StateView state;
  std::int64_t tokens;
  std::int64_t past;
  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t half = state.width / 2;
    const std::int64_t row = i / state.width;
    const std::int64_t at = i % state.width;
    state.row(row / tokens, past + row % tokens)[at] =
        at < half ? k[row * half + at] : v[row * half + at - half];
  }
};

/// Of a step that reads q, k and v and has a state.
inline void keep_keys(const StepContext& context) {
  const WireView& k = context.inputs[1];
  for_each_index(context.device->queue, 2 * k.size(),
                 KeepKeysElement{k.values().data(), context.inputs[2].values().data(), context.state,
                                 k.rows() / k.extent(0), context.past});
}

} // namespace tenon::gpu

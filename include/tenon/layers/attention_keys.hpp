// SPDX-License-Identifier: Apache-2.0
// Which keys and values the queries of an Attention read: those of this call, or, with a KvCache, the state's, where
// earlier calls left theirs; for a step's function on the host and for that on a device.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/graph/step.hpp>

#include <cstdint>

namespace tenon {

/// Of each sequence the first `count` of `stride` rows.
struct AttentionKeys {
  kernels::ConstMatrix k;
  kernels::ConstMatrix v;
  std::int64_t count = 0;
  std::int64_t stride = 0;
  std::int64_t first_query = 0; ///< place of this call's first query among the keys
};

/// Of a step that reads q, k, v and, where given, a mask. In a state a token's row is its k and then its v; those of this
/// call are still to be written there, from token `past` on. Throws `error{bad_argument}` for a mask beside a state.
[[nodiscard]] inline AttentionKeys attention_keys(const StepContext& context) {
  const kernels::ConstMatrix k = context.inputs[1].const_matrix();
  const std::int64_t tokens = k.rows / context.inputs[1].extent(0);
  const StateView& state = context.state;
  if (state.data == nullptr) return {k, context.inputs[2].const_matrix(), tokens, tokens, 0};
  if (context.inputs.size() > 3)
    throw error(ErrorCode::bad_argument, "Attention: a mask cannot be given together with a KvCache");
  const std::int64_t rows = state.sequences * state.capacity;
  return {{state.data, rows, k.cols, state.width},
          {state.data + k.cols, rows, k.cols, state.width},
          context.past + tokens,
          state.capacity,
          context.past};
}

} // namespace tenon

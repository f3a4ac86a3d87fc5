// SPDX-License-Identifier: Apache-2.0
// The names of the ops that run on a device, without what runs them (gpu/step_table.hpp): a net with another op is refused
// where it is compiled.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace tenon {

/// As Step::op has them, in alphabetical order.
inline constexpr auto device_ops = std::to_array<std::string_view>({
    "Add",         "AddEmbeddingRow", "AddNorm", "AddPositions", "Attention", "Copy",
    "Embedding",   "Flatten",         "Geglu",   "Gelu",         "GeluTanh",  "HeadRmsNorm",
    "L2Normalize", "LayerNorm",       "Linear",  "MeanPool",     "Multiply",  "QuickGelu",
    "Relu",        "RmsNorm",         "Silu",    "Softmax",      "Tanh",      "TiedLinear",
});

[[nodiscard]] constexpr bool is_device_op(std::string_view op) {
  return std::ranges::binary_search(device_ops, op);
}

} // namespace tenon

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
    "Add",
    "AddCroppedTable",
    "AddEmbeddingRow",
    "AddModulationTable",
    "AddNorm",
    "AddPerSequence",
    "AddPositions",
    "AddTable",
    "Attention",
    "ChannelsFirst",
    "ChannelsLast",
    "Conv2d",
    "Conv3d",
    "Copy",
    "Embedding",
    "FirstTokens",
    "Flatten",
    "GatedAdd",
    "Geglu",
    "Gelu",
    "GeluTanh",
    "GroupNorm",
    "HeadRmsNorm",
    "JoinChannels",
    "JoinTokens",
    "JoinedLinear",
    "L2Normalize",
    "LastToken",
    "LastTokens",
    "LayerNorm",
    "Linear",
    "MeanPool",
    "ModulatedNorm",
    "Multiply",
    "PrependToken",
    "QuickGelu",
    "Relu",
    "RmsNorm",
    "Rotary",
    "RotaryAt",
    "RotaryGrid",
    "Silu",
    "Softmax",
    "Tanh",
    "TiedLinear",
    "TimestepFeatures",
    "TokenAt",
    "Unpatchify",
    "UpsampleNearest",
});

[[nodiscard]] constexpr bool is_device_op(std::string_view op) {
  return std::ranges::binary_search(device_ops, op);
}

} // namespace tenon

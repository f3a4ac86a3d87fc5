// SPDX-License-Identifier: Apache-2.0
// From an op's name (Step::op) to what runs it on a device. session/device_ops.hpp has the names alone.
#pragma once

#include <tenon/gpu/attention.hpp>
#include <tenon/gpu/convolution.hpp>
#include <tenon/gpu/elementwise.hpp>
#include <tenon/gpu/embedding.hpp>
#include <tenon/gpu/image.hpp>
#include <tenon/gpu/joined_linear.hpp>
#include <tenon/gpu/linear.hpp>
#include <tenon/gpu/modulation.hpp>
#include <tenon/gpu/norm.hpp>
#include <tenon/gpu/pooling.hpp>
#include <tenon/gpu/rotary.hpp>
#include <tenon/gpu/tokens.hpp>

#include <string_view>

namespace tenon::gpu {

struct DeviceStep {
  std::string_view op;
  StepFunction run = nullptr;
  /// Bytes of the run's device scratch for these extents and dtypes; null: none.
  ScratchFunction scratch = nullptr;
};

/// In the order of their names.
inline constexpr DeviceStep device_steps[] = {
    {"Add", &map_two_step<SumOf>},
    {"AddCroppedTable", &add_cropped_table_step},
    {"AddEmbeddingRow", &add_rows_step},
    {"AddModulationTable", &add_modulation_table_step},
    {"AddNorm", &layer_norm_step, &norm_bias_scratch},
    {"AddPerSequence", &add_per_sequence_step},
    {"AddPositions", &add_rows_step},
    {"AddTable", &add_table_step},
    {"Attention", &attention_step, &attention_step_scratch},
    {"ChannelsFirst", &channels_step<false>},
    {"ChannelsLast", &channels_step<true>},
    {"Conv2d", &convolution_step, &convolution_step_scratch},
    {"Conv3d", &convolution_step, &convolution_step_scratch},
    {"Copy", &copy_step},
    {"Embedding", &embedding_step},
    {"FirstTokens", &take_tokens_step},
    {"Flatten", &copy_step},
    {"GatedAdd", &gated_add_step},
    {"Geglu", &geglu_step},
    {"Gelu", &map_step<GeluOf>},
    {"GeluTanh", &map_step<GeluTanhOf>},
    {"GroupNorm", &group_norm_step, &norm_bias_scratch},
    {"HeadRmsNorm", &rms_norm_step},
    {"JoinChannels", &join_channels_step},
    {"JoinTokens", &join_tokens_step},
    {"JoinedLinear", &joined_linear_step, &joined_linear_step_scratch},
    {"L2Normalize", &rows_step<L2NormalizeRow>},
    {"LastToken", &last_token_step},
    {"LastTokens", &take_tokens_step},
    {"LayerNorm", &layer_norm_step, &norm_bias_scratch},
    {"Linear", &linear_step, &linear_step_scratch},
    {"MeanPool", &mean_pool_step},
    {"ModulatedNorm", &modulated_norm_step},
    {"Multiply", &map_two_step<ProductOf>},
    {"PrependToken", &prepend_token_step},
    {"QuickGelu", &map_step<QuickGeluOf>},
    {"Relu", &map_step<ReluOf>},
    {"RmsNorm", &rms_norm_step},
    {"Rotary", &rotary_step, &rotary_step_scratch},
    {"RotaryAt", &rotary_axes_step, &rotary_step_scratch},
    {"RotaryGrid", &rotary_axes_step, &rotary_step_scratch},
    {"Silu", &map_step<SiluOf>},
    {"Softmax", &rows_step<SoftmaxRow>},
    {"Tanh", &map_step<TanhOf>},
    {"TiedLinear", &linear_step, &linear_step_scratch},
    {"TimestepFeatures", &timestep_features_step},
    {"TokenAt", &token_at_step},
    {"Unpatchify", &unpatchify_step},
    {"UpsampleNearest", &upsample_nearest_step},
};

/// Null for an op that no device runs. What it points to lives for ever.
[[nodiscard]] constexpr const DeviceStep* find_device_step(std::string_view op) {
  for (const DeviceStep& step : device_steps)
    if (step.op == op) return &step;
  return nullptr;
}

} // namespace tenon::gpu

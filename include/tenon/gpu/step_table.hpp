// SPDX-License-Identifier: Apache-2.0
// From an op's name (Step::op) to what runs it on a device. session/device_ops.hpp has the names alone.
#pragma once

#include <tenon/gpu/attention.hpp>
#include <tenon/gpu/elementwise.hpp>
#include <tenon/gpu/embedding.hpp>
#include <tenon/gpu/norm.hpp>
#include <tenon/gpu/pooling.hpp>

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
    {"AddEmbeddingRow", &add_rows_step},
    {"AddNorm", &layer_norm_step},
    {"AddPositions", &add_rows_step},
    {"Attention", &attention_step, &attention_step_scratch},
    {"Copy", &copy_step},
    {"Embedding", &embedding_step},
    {"Flatten", &copy_step},
    {"Geglu", &geglu_step},
    {"Gelu", &map_step<GeluOf>},
    {"GeluTanh", &map_step<GeluTanhOf>},
    {"HeadRmsNorm", &rms_norm_step},
    {"L2Normalize", &rows_step<L2NormalizeRow>},
    {"LayerNorm", &layer_norm_step},
    // gpu/linear.hpp: {"Linear", &linear_step, &linear_step_scratch},
    {"MeanPool", &mean_pool_step},
    {"Multiply", &map_two_step<ProductOf>},
    {"QuickGelu", &map_step<QuickGeluOf>},
    {"Relu", &map_step<ReluOf>},
    {"RmsNorm", &rms_norm_step},
    {"Silu", &map_step<SiluOf>},
    {"Softmax", &rows_step<SoftmaxRow>},
    {"Tanh", &map_step<TanhOf>},
    // gpu/linear.hpp: {"TiedLinear", &linear_step, &linear_step_scratch},
};

/// Null for an op that no device runs. What it points to lives for ever.
[[nodiscard]] constexpr const DeviceStep* find_device_step(std::string_view op) {
  for (const DeviceStep& step : device_steps)
    if (step.op == op) return &step;
  return nullptr;
}

} // namespace tenon::gpu

// SPDX-License-Identifier: Apache-2.0
// What networks of images do beside convolutions, on a device: GroupNorm (kernels/group_norm.hpp), ChannelsFirst and
// ChannelsLast, UpsampleNearest, Unpatchify, AddCroppedTable. Channels are last where nothing else is said. An item of what
// moves numbers is one number of the output, which is written in order.
#pragma once

#include <tenon/gpu/norm.hpp>
#include <tenon/gpu/table_rows.hpp>

#include <cmath>
#include <cstdint>

namespace tenon::gpu {

/// y = (x - mean) / sqrt(variance + eps) * gamma + beta. A row is a group of an image: `size` channels at all positions,
/// read three times.
struct GroupNormRow {
  const float* x; ///< [batch, positions, groups * size]
  float* y;
  std::int64_t positions;
  std::int64_t groups;
  std::int64_t size;
  StoredVector gamma; ///< [groups * size] or absent, as beta
  StoredVector beta;
  double eps;
  template <class Team>
  TENON_TEAM void operator()(std::int64_t row, const Team& team) const {
    const std::int64_t channel = row % groups * size;
    const std::int64_t first = row / groups * positions * groups * size + channel;
    const std::int64_t count = positions * size;
    const auto at = [&](std::int64_t i) { return first + i / size * groups * size + i % size; };
    double sum = 0;
    for (std::int64_t i = team.lane(); i < count; i += team.lanes()) sum += static_cast<double>(x[at(i)]);
    const double mean = team.sum(sum) / static_cast<double>(count);
    double squares = 0;
    for (std::int64_t i = team.lane(); i < count; i += team.lanes()) {
      const double d = static_cast<double>(x[at(i)]) - mean;
      squares += d * d;
    }
    const Moments of_group{mean, 1.0 / std::sqrt(team.sum(squares) / static_cast<double>(count) + eps)};
    for (std::int64_t i = team.lane(); i < count; i += team.lanes())
      y[at(i)] = of_group.normalised(x[at(i)]) * gamma.value(channel + i % size, 1.0f) +
                 beta.value(channel + i % size, 0.0f);
  }
};

/// x [batch, ..., c], weight and bias [c] -> as x. params.integers[0]: groups; reals: epsilon.
inline void group_norm_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const std::int64_t groups = context.params.integers[0];
  const std::int64_t positions = x.rows() / x.extent(0);
  const std::int64_t size = x.width() / groups;
  for_each_row(context.device->queue, x.extent(0) * groups, positions * size,
               GroupNormRow{x.values().data(), context.output.values().data(), positions, groups, size,
                            StoredVector(slot_weight(context, SideTerms::biases)), norm_bias(context),
                            static_cast<double>(context.params.reals[0])});
}

/// Matrices [rows, cols] of x turned round: y [count, cols, rows].
struct TransposeElement {
  const float* x;
  float* y;
  std::int64_t rows;
  std::int64_t cols;
  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t image = i / (rows * cols) * rows * cols;
    y[i] = x[image + i % rows * cols + i / rows % cols];
  }
};

/// [batch, c, ...] -> [batch, ..., c], or the other way.
template <bool IsToLast>
void channels_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const std::int64_t rows = IsToLast ? x.extent(1) : x.rows() / x.extent(0);
  for_each_index(context.device->queue, x.size(),
                 TransposeElement{x.values().data(), context.output.values().data(), rows,
                                  x.size() / x.extent(0) / rows});
}

struct UpsampleElement {
  const float* x; ///< [..., width, channels]
  float* y;
  std::int64_t width;
  std::int64_t channels;
  std::int64_t times;
  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t column = i / channels % (width * times) / times;
    const std::int64_t line = i / (channels * width * times) / times;
    y[i] = x[(line * width + column) * channels + i % channels];
  }
};

/// [..., height, width, c] -> [..., height * times, width * times, c]. params.integers[0]: times.
inline void upsample_nearest_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  for_each_index(context.device->queue, context.output.size(),
                 UpsampleElement{x.values().data(), context.output.values().data(), x.extent(x.rank - 2),
                                 x.width(), context.params.integers[0]});
}

/// Tokens run over frames, rows and columns; a token's numbers over the patch in the same order, channels last.
struct UnpatchifyElement {
  const float* x;
  float* y; ///< [batch, channels, frames, height, width]
  std::int64_t channels;
  std::int64_t frames;
  std::int64_t height;
  std::int64_t width;
  std::int64_t patch_depth;
  std::int64_t patch_height;
  std::int64_t patch_width;
  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t column = i % width;
    const std::int64_t row = i / width % height;
    const std::int64_t frame = i / (width * height) % frames;
    const std::int64_t channel = i / (width * height * frames) % channels;
    const std::int64_t image = i / (width * height * frames * channels);
    const std::int64_t token =
        ((image * (frames / patch_depth) + frame / patch_depth) * (height / patch_height) +
         row / patch_height) *
            (width / patch_width) +
        column / patch_width;
    const std::int64_t inside =
        (frame % patch_depth * patch_height + row % patch_height) * patch_width + column % patch_width;
    const std::int64_t numbers = patch_depth * patch_height * patch_width;
    y[i] = x[(token * numbers + inside) * channels + channel];
  }
};

/// Tokens [batch, ..., patch * channels] -> [batch, channels, (frames,) height, width]. params.integers: channels and the
/// patch's depth, height and width.
inline void unpatchify_step(const StepContext& context) {
  const WireView& y = context.output;
  const auto& params = context.params.integers;
  for_each_index(context.device->queue, y.size(),
                 UnpatchifyElement{context.inputs[0].values().data(), y.values().data(), params[0],
                                   y.rank == 5 ? y.extent(2) : 1, y.extent(y.rank - 2), y.extent(y.rank - 1),
                                   params[1], params[2], params[3]});
}

/// x [batch, height, width, d] + the middle of a table [1, side * side, d] -> as x; see `cropped_places`.
inline void add_cropped_table_step(const StepContext& context) {
  add_table_rows(context, cropped_places(context));
}

} // namespace tenon::gpu

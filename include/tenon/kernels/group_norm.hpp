// SPDX-License-Identifier: Apache-2.0
// Group normalisation (Wu and He 2018, arXiv:1803.08494) of images whose channels are last: mean and variance over all
// positions of an image and the channels of one group, two passes in double, so that a large mean loses nothing. A
// channel's sums are its own, and those of a group are added up in the order of its channels: the bits do not depend on
// how groups are shared among threads. Cost: three reads of x, one write; 24 bytes of scratch a channel and thread. x
// and y may be the same matrix.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/workers.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>

namespace tenon::kernels {

/// Scratch of `group_norm`, a thread.
[[nodiscard]] constexpr std::int64_t group_norm_scratch_bytes(std::int64_t channels) noexcept {
  return scratch_sum({2 * scratch_bytes<double>(channels), 2 * scratch_bytes<float>(channels)});
}

/// What one thread holds for the channels it works on.
struct GroupNormRoom {
  double* sums;
  double* means;
  float* scales;
  float* shifts;
  GroupNormRoom(std::int64_t channels, Scratch& scratch)
      : sums(scratch.take<double>(channels).data()), means(scratch.take<double>(channels).data()),
        scales(scratch.take<float>(channels).data()), shifts(scratch.take<float>(channels).data()) {}
};

/// The sum over a group's channels, for each of them.
template <class F>
void for_each_group(std::int64_t channels, std::int64_t size, const double* sums, F f) {
  for (std::int64_t begin = 0; begin < channels; begin += size) {
    double sum = 0;
    for (std::int64_t c = begin; c < begin + size; ++c) sum += sums[c];
    for (std::int64_t c = begin; c < begin + size; ++c) f(c, sum);
  }
}

/// Whole groups of one image: x and y [positions, channels of the groups], gamma and beta as many.
inline void norm_groups(ConstMatrix x, WeightVector gamma, WeightVector beta, std::int64_t group_size,
                        double eps, Matrix y, const GroupNormRoom& room) noexcept {
  const std::int64_t channels = x.cols;
  const double count = static_cast<double>(x.rows) * static_cast<double>(group_size);
  std::fill_n(room.sums, channels, 0.0);
  for (std::int64_t i = 0; i < x.rows; ++i)
    for (std::int64_t c = 0; c < channels; ++c) room.sums[c] += static_cast<double>(x.row(i)[c]);
  for_each_group(channels, group_size, room.sums,
                 [&](std::int64_t c, double sum) { room.means[c] = sum / count; });
  std::fill_n(room.sums, channels, 0.0);
  for (std::int64_t i = 0; i < x.rows; ++i)
    for (std::int64_t c = 0; c < channels; ++c) {
      const double d = static_cast<double>(x.row(i)[c]) - room.means[c];
      room.sums[c] += d * d;
    }
  std::fill_n(room.scales, channels, 1.0f);
  std::fill_n(room.shifts, channels, 0.0f);
  if (!gamma.empty()) decode(gamma.dtype, gamma.data, channels, room.scales);
  if (!beta.empty()) decode(beta.dtype, beta.data, channels, room.shifts);
  double* const inverses = room.sums; // a channel's sum is read before this is written
  for_each_group(channels, group_size, room.sums,
                 [&](std::int64_t c, double sum) { inverses[c] = 1.0 / std::sqrt(sum / count + eps); });
  for (std::int64_t i = 0; i < x.rows; ++i)
    for (std::int64_t c = 0; c < channels; ++c) {
      const double d = (static_cast<double>(x.row(i)[c]) - room.means[c]) * inverses[c];
      y.row(i)[c] = static_cast<float>(d) * room.scales[c] + room.shifts[c];
    }
}

/// y = (x - mean) / sqrt(variance + eps) * gamma + beta, torch.nn.GroupNorm's: x and y [batch * positions, channels],
/// gamma and beta [channels] (each may be absent), `groups` divides the channels.
inline void group_norm(ConstMatrix x, std::int64_t batch, WeightVector gamma, WeightVector beta,
                       std::int64_t groups, double eps, Matrix y, const Workers& workers) noexcept {
  assert(x.rows == y.rows && x.cols == y.cols && x.rows % batch == 0 && x.cols % groups == 0 &&
         "group_norm: images of one size, groups of one size");
  const std::int64_t positions = x.rows / batch;
  const std::int64_t size = x.cols / groups;
  const auto part_of = [](WeightVector v, std::int64_t first, std::int64_t count) {
    return v.empty() ? v : WeightVector{v.at(first), v.dtype, count};
  };
  workers.share(
      batch * groups, 1, 8 * positions * size, [&](std::int64_t first, std::int64_t count, Scratch scratch) {
        const GroupNormRoom room(x.cols, scratch);
        for (std::int64_t g = first; g < first + count;) {
          const std::int64_t image = g / groups;
          const std::int64_t some = std::min(first + count, (image + 1) * groups) - g;
          const std::int64_t channel = g % groups * size;
          const std::int64_t channels = some * size;
          norm_groups(x.rows_from(image * positions, positions).cols_from(channel, channels),
                      part_of(gamma, channel, channels), part_of(beta, channel, channels), size, eps,
                      y.rows_from(image * positions, positions).cols_from(channel, channels), room);
          g += some;
        }
      });
}

} // namespace tenon::kernels

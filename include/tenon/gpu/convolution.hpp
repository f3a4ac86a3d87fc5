// SPDX-License-Identifier: Apache-2.0
// Convolutions on a device: Conv2d and Conv3d, as products of patches with the weight taken as a matrix [out, channels *
// kernel]. One of 1 x 1 reads the image in place.
#pragma once

#include <tenon/gpu/tiles.hpp>
#include <tenon/layers/patch_grid.hpp>

#include <cstdint>

namespace tenon::gpu {

/// to [count, cols], cols = channels * kernel: the patches of the output positions from `first` on. Item i is one number.
struct GatherPatches {
  const float* images; ///< [batch, depth, height, width, channels]
  kernels::PatchGrid grid;
  std::int64_t first;
  float* to;

  TENON_HD void operator()(std::int64_t i) const {
    const std::int64_t positions = grid.kernel.size();
    const kernels::PatchOrigin at = kernels::patch_origin(grid, first + i / grid.cols());
    const std::int64_t channel = i % grid.cols() / positions;
    const std::int64_t position = i % positions; // cols is a multiple of it
    const std::int64_t z = at.depth + position / (grid.kernel.height * grid.kernel.width);
    const std::int64_t y = at.height + position / grid.kernel.width % grid.kernel.height;
    const std::int64_t x = at.width + position % grid.kernel.width;
    const bool is_inside =
        z >= 0 && z < grid.image.depth && y >= 0 && y < grid.image.height && x >= 0 && x < grid.image.width;
    const std::int64_t pixel =
        ((at.image * grid.image.depth + z) * grid.image.height + y) * grid.image.width + x;
    to[i] = is_inside ? images[pixel * grid.channels + channel] : 0.0f;
  }
};

inline void convolution_step(const StepContext& context) {
  const kernels::PatchGrid grid = patch_grid(context);
  const kernels::ConstMatrix x = context.inputs[0].const_matrix();
  if (grid.are_rows())
    return slot_product(context, x, context.output.matrix(), DeviceScratch(context.device->scratch));
  gathered_product(context, grid.cols(), [&](std::int64_t first, std::int64_t count, float* to) {
    for_each_index(context.device->queue, count * grid.cols(), GatherPatches{x.data, grid, first, to});
  });
}

inline std::int64_t convolution_step_scratch(const StepContext& context) {
  const kernels::PatchGrid grid = patch_grid(context);
  const std::int64_t rows = context.output.rows();
  const std::int64_t out = context.output.width();
  return grid.are_rows() ? slot_product_scratch_bytes(rows, out, grid.cols())
                         : gathered_product_scratch_bytes(rows, out, grid.cols());
}

} // namespace tenon::gpu

// SPDX-License-Identifier: Apache-2.0
// A convolution as a product: for each output position the patch of the input that its kernel sees, as a row in the
// order of torch.nn.Conv2d's weight [out, in, kh, kw] (channel outermost, then the kernel's positions), zeros where
// the kernel reaches over the edge. y = patches W^T is then the convolution (Chellapilla et al. 2006, "High
// performance convolutional neural networks for document processing"). Images are channels last, and have a depth:
// 1 for two dimensions. Cost: each patch is read and written once; no scratch but a row of zeros, the caller's.
#pragma once

#include <tenon/kernels/matrix.hpp>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>

namespace tenon::kernels {

/// Numbers along the axes of an image. `Extent(3)` is 3 along each, `Extent(5, 3)` has no depth (two dimensions).
/// Structural: a kernel's extent is an argument of its layer's template.
struct Extent {
  std::int64_t depth = 1;
  std::int64_t height = 1;
  std::int64_t width = 1;

  static constexpr std::int64_t no_depth = -1;

  // NOLINTNEXTLINE(google-explicit-constructor): `Conv2d<"conv", 4, 8, 3>` is a kernel of 3 by 3
  constexpr Extent(std::int64_t each) noexcept : depth(each), height(each), width(each) {}
  constexpr Extent(std::int64_t rows, std::int64_t cols) noexcept
      : depth(no_depth), height(rows), width(cols) {}
  constexpr Extent(std::int64_t planes, std::int64_t rows, std::int64_t cols) noexcept
      : depth(planes), height(rows), width(cols) {}

  [[nodiscard]] constexpr std::int64_t size() const noexcept { return depth * height * width; }
  friend constexpr bool operator==(const Extent&, const Extent&) = default;
};

/// Positions of a kernel along one axis: floor((n + 2 padding - kernel) / stride) + 1, torch.nn.Conv2d's; less than 1
/// if the kernel does not fit.
[[nodiscard]] constexpr std::int64_t convolved(std::int64_t n, std::int64_t kernel, std::int64_t stride,
                                               std::int64_t padding) noexcept {
  const std::int64_t room = n + 2 * padding - kernel;
  return room < 0 ? 0 : room / stride + 1;
}

/// Images [batch, depth, height, width, channels] and the kernel that goes over them.
struct PatchGrid {
  std::int64_t batch = 1;
  Extent image = 1;
  std::int64_t channels = 1;
  Extent kernel = 1;
  Extent stride = 1;
  Extent padding = 0;

  [[nodiscard]] constexpr Extent outputs() const noexcept {
    return {convolved(image.depth, kernel.depth, stride.depth, padding.depth),
            convolved(image.height, kernel.height, stride.height, padding.height),
            convolved(image.width, kernel.width, stride.width, padding.width)};
  }
  /// Output positions of all images: rows of the product.
  [[nodiscard]] constexpr std::int64_t rows() const noexcept { return batch * outputs().size(); }
  [[nodiscard]] constexpr std::int64_t cols() const noexcept { return channels * kernel.size(); }
  /// Whether a patch is one position of the image, and each is one's: the images are the patches.
  [[nodiscard]] constexpr bool are_rows() const noexcept {
    return kernel == Extent(1) && stride == Extent(1) && padding == Extent(0);
  }
};

/// Where a patch begins, in the image's positions; negative in the padding.
struct PatchOrigin {
  std::int64_t image = 0;
  std::int64_t depth = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
};

[[nodiscard]] constexpr PatchOrigin patch_origin(const PatchGrid& grid, std::int64_t row) noexcept {
  const Extent out = grid.outputs();
  const std::int64_t x = row % out.width;
  const std::int64_t y = row / out.width % out.height;
  const std::int64_t z = row / (out.width * out.height) % out.depth;
  return {row / out.size(), z * grid.stride.depth - grid.padding.depth,
          y * grid.stride.height - grid.padding.height, x * grid.stride.width - grid.padding.width};
}

inline constexpr std::int64_t patch_positions = 32; ///< of a kernel, gathered together

/// to [channels, Count] of a row of `stride` = the channels of Count positions of the image, turned round. A count
/// that the compiler knows makes it a few loads and stores a channel; 0 is any.
template <std::int64_t Count>
inline void interleave(const float* const* from, std::int64_t count, std::int64_t channels,
                       std::int64_t stride, float* to) noexcept {
  const std::int64_t n = Count == 0 ? count : Count;
  for (std::int64_t c = 0; c < channels; ++c, to += stride)
    for (std::int64_t p = 0; p < n; ++p) to[p] = from[p][c];
}

inline void interleave_any(const float* const* from, std::int64_t count, std::int64_t channels,
                           std::int64_t stride, float* to) noexcept {
  switch (count) {
  case 1:
    if (stride == 1)
      std::copy_n(from[0], channels, to);
    else
      interleave<1>(from, count, channels, stride, to);
    return;
  case 3:
    return interleave<3>(from, count, channels, stride, to);
  case 4:
    return interleave<4>(from, count, channels, stride, to);
  case 9:
    return interleave<9>(from, count, channels, stride, to);
  case 27:
    return interleave<27>(from, count, channels, stride, to);
  default:
    return interleave<0>(from, count, channels, stride, to);
  }
}

/// One patch as a row [cols]. `zeros` has a float for each channel.
inline void gather_patch(const float* images, const PatchGrid& grid, const PatchOrigin& at,
                         const float* zeros, float* to) noexcept {
  const std::int64_t positions = grid.kernel.size();
  const float* const image = images + at.image * grid.image.size() * grid.channels;
  std::array<const float*, patch_positions> from; // NOLINT: filled as far as it is read
  std::int64_t first = 0;
  std::int64_t count = 0;
  for (std::int64_t z = at.depth; z < at.depth + grid.kernel.depth; ++z)
    for (std::int64_t y = at.height; y < at.height + grid.kernel.height; ++y) {
      const bool is_inside = z >= 0 && z < grid.image.depth && y >= 0 && y < grid.image.height;
      const std::int64_t line = is_inside ? (z * grid.image.height + y) * grid.image.width : 0;
      for (std::int64_t x = at.width; x < at.width + grid.kernel.width; ++x) {
        from[static_cast<std::size_t>(count++)] =
            is_inside && x >= 0 && x < grid.image.width ? image + (line + x) * grid.channels : zeros;
        if (count < patch_positions && first + count < positions) continue;
        interleave_any(from.data(), count, grid.channels, positions, to + first);
        first += count;
        count = 0;
      }
    }
}

/// to [count, cols] = the patches of the output positions `first` ... first + count - 1 of all images, laid end to
/// end. `zeros` has a float 0 for each channel.
inline void gather_patches(const float* images, const PatchGrid& grid, std::int64_t first, const float* zeros,
                           Matrix to) noexcept {
  assert(to.cols == grid.cols() && first >= 0 && first + to.rows <= grid.rows() &&
         "gather_patches: rows of the grid");
  for (std::int64_t i = 0; i < to.rows; ++i)
    gather_patch(images, grid, patch_origin(grid, first + i), zeros, to.row(i));
}

} // namespace tenon::kernels

// SPDX-License-Identifier: Apache-2.0
// A convolution as its definition reads, in float64: channels last, a depth of 1 for two dimensions.
#pragma once

#include <tenon/kernels/patches.hpp>

#include <cstdint>
#include <vector>

namespace tenon::test {

/// Element `at` of the axes' own numbers, or 0 outside.
struct NaiveImages {
  const kernels::PatchGrid& grid;
  const float* values;

  [[nodiscard]] double operator()(std::int64_t b, std::int64_t z, std::int64_t y, std::int64_t x,
                                  std::int64_t c) const {
    const kernels::Extent& n = grid.image;
    if (z < 0 || z >= n.depth || y < 0 || y >= n.height || x < 0 || x >= n.width) return 0;
    return static_cast<double>(
        values[(((b * n.depth + z) * n.height + y) * n.width + x) * grid.channels + c]);
  }
};

/// `f(row, col, value)` for every element of the patches [rows, cols], from their definition.
template <class F>
void for_each_patch_element(const kernels::PatchGrid& grid, const float* values, F f) {
  const NaiveImages images{grid, values};
  const kernels::Extent out = grid.outputs();
  const kernels::Extent& k = grid.kernel;
  std::int64_t row = 0;
  for (std::int64_t b = 0; b < grid.batch; ++b)
    for (std::int64_t z = 0; z < out.depth; ++z)
      for (std::int64_t y = 0; y < out.height; ++y)
        for (std::int64_t x = 0; x < out.width; ++x, ++row) {
          std::int64_t col = 0;
          for (std::int64_t c = 0; c < grid.channels; ++c)
            for (std::int64_t kz = 0; kz < k.depth; ++kz)
              for (std::int64_t ky = 0; ky < k.height; ++ky)
                for (std::int64_t kx = 0; kx < k.width; ++kx, ++col)
                  f(row, col,
                    images(b, z * grid.stride.depth - grid.padding.depth + kz,
                           y * grid.stride.height - grid.padding.height + ky,
                           x * grid.stride.width - grid.padding.width + kx, c));
        }
}

/// [rows, out] of w [out, cols] and a bias, which may be empty.
[[nodiscard]] inline std::vector<double> naive_convolution(const kernels::PatchGrid& grid,
                                                           const float* values, const std::vector<double>& w,
                                                           const std::vector<double>& bias,
                                                           std::int64_t out) {
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  std::vector<double> y(at(grid.rows() * out));
  for (std::size_t i = 0; i < y.size() && !bias.empty(); ++i) y[i] = bias[i % at(out)];
  for_each_patch_element(grid, values, [&](std::int64_t row, std::int64_t col, double value) {
    for (std::int64_t o = 0; o < out; ++o) y[at(row * out + o)] += value * w[at(o * grid.cols() + col)];
  });
  return y;
}

} // namespace tenon::test

// SPDX-License-Identifier: Apache-2.0
// A matrix unit of plain loops, with the arithmetic of TDPBF16PS (Intel 64 and IA-32 Architectures Software
// Developer's Manual, volume 2): of a row times a column, the even and the odd products are added up apart,
// by fused operations, then to each other, then to the sum; subnormal numbers are zeros, read and written.
#pragma once

#include <tenon/kernels/tile_unit.hpp>
#include <tenon/weights/half.hpp>

#include <support/subnormals.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tenon::test {

class EmulatedTiles {
 public:
  template <int T>
  void zero() noexcept {
    std::memset(tiles_[T], 0, sizeof tiles_[T]);
  }
  template <int T>
  void load(const void* from, std::int64_t stride) noexcept {
    for (std::int64_t r = 0; r < 16; ++r)
      std::memcpy(tiles_[T][r], static_cast<const std::byte*>(from) + r * stride, 64);
  }
  template <int T>
  void store(float* to, std::int64_t stride) noexcept {
    for (std::int64_t r = 0; r < 16; ++r)
      std::memcpy(reinterpret_cast<std::byte*>(to) + r * stride, tiles_[T][r], 64);
  }
  template <int C, int A, int B>
  void multiply() noexcept {
    for (std::size_t m = 0; m < 16; ++m)
      for (std::size_t n = 0; n < 16; ++n) {
        float sums[2] = {};
        for (std::size_t k = 0; k < 16; ++k)
          for (std::size_t i = 0; i < 2; ++i)
            sums[i] = without_subnormals(std::fma(half(A, m, 2 * k + i), half(B, k, 2 * n + i), sums[i]));
        float sum = 0;
        std::memcpy(&sum, &tiles_[C][m][4 * n], 4);
        sum = without_subnormals(without_subnormals(sum) + without_subnormals(sums[0] + sums[1]));
        std::memcpy(&tiles_[C][m][4 * n], &sum, 4);
      }
  }

 private:
  [[nodiscard]] float half(int tile, std::size_t row, std::size_t i) const noexcept {
    std::uint16_t bits = 0;
    std::memcpy(&bits, &tiles_[tile][row][2 * i], 2);
    return without_subnormals(f32_from_bf16(bits));
  }

  std::byte tiles_[8][16][64] = {};
};

static_assert(kernels::TileUnit<EmulatedTiles>);

} // namespace tenon::test

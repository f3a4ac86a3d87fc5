// SPDX-License-Identifier: Apache-2.0
// Convolutions whose low-rank factors have a core (Tucker; LyCORIS's lora_mid, hada_t1, hada_t2, lokr_t2, and
// formats that copy it): Delta[o, i, s] = sum_nm left[o, n] core[n, m, s] right[m, i], s being a place of the
// kernel. The core and `right` are made one factor [n, in * places] once, at load, so that every kernel sees
// a plain pair. Sums in double, rounded once.
// Cost: 2 n m in places operations, the floats that the caller gives and, meanwhile, those of both factors.
// One thread.
#pragma once

#include <tenon/kernels/matrix.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tenon::kernels {

/// The values of a stored matrix, row by row.
[[nodiscard]] inline std::vector<float> decoded(WeightMatrix from) {
  std::vector<float> values(static_cast<std::size_t>(from.rows * from.cols));
  for (std::int64_t i = 0; i < from.rows; ++i)
    decode(from.dtype, from.at(i, 0), from.cols, values.data() + i * from.cols);
  return values;
}

/// to [n, in * places], row-major: to[a, i * places + s] = sum_m core[a, m, s] right[m, i]. `core` is [n, m,
/// places] as [n, m * places], `right` [m, in]. Throws std::bad_alloc.
inline void fold_core(WeightMatrix core, WeightMatrix right, float* to) {
  assert(right.rows > 0 && core.cols % right.rows == 0 && "fold_core: core [n, m * places], right [m, in]");
  const std::int64_t places = core.cols / right.rows;
  const std::int64_t width = right.cols * places;
  const std::vector<float> of_core = decoded(core);
  const std::vector<float> of_right = decoded(right);
  std::vector<double> sums(static_cast<std::size_t>(width));
  for (std::int64_t a = 0; a < core.rows; ++a) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (std::int64_t m = 0; m < right.rows; ++m)
      for (std::int64_t i = 0; i < right.cols; ++i) {
        const double factor = static_cast<double>(of_right[static_cast<std::size_t>(m * right.cols + i)]);
        for (std::int64_t s = 0; s < places; ++s)
          sums[static_cast<std::size_t>(i * places + s)] +=
              factor * static_cast<double>(of_core[static_cast<std::size_t>(a * core.cols + m * places + s)]);
      }
    for (std::int64_t k = 0; k < width; ++k)
      to[a * width + k] = static_cast<float>(sums[static_cast<std::size_t>(k)]);
  }
}

} // namespace tenon::kernels

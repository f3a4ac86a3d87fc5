// SPDX-License-Identifier: Apache-2.0
// y = x W^T + bias, as torch.nn.functional.linear, over weights of any stored type. A 16-bit weight is
// decoded tile by tile inside the product: no float copy of it ever exists. Cost: 2 rows in out flops;
// scratch as `multiply_nt`, the same for every dtype.
#pragma once

#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/product_backend.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/workers.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <cassert>
#include <cstdint>

namespace tenon::kernels {

/// Scratch of `linear` for x [rows, in] and w [out, in]. Grows with each; at most 582 KiB a thread.
[[nodiscard]] constexpr std::int64_t linear_scratch_bytes(std::int64_t rows, std::int64_t out,
                                                          std::int64_t in) noexcept {
  return multiply_scratch_bytes(rows, out, in);
}

/// Every row of y = `values`, or 0 where there are none.
inline void fill_rows(WeightVector values, Matrix y) noexcept {
  if (y.rows == 0) return;
  if (values.empty())
    std::fill_n(y.row(0), y.cols, 0.0f);
  else
    decode(values.dtype, values.data, y.cols, y.row(0));
  for (std::int64_t i = 1; i < y.rows; ++i) std::copy_n(y.row(0), y.cols, y.row(i));
}

/// y [rows, out] = x [rows, in] w [out, in]^T + bias [out], by `backend` if there is one that takes it.
/// Precondition: y overlaps nothing else.
inline void linear(ConstMatrix x, WeightMatrix w, WeightVector bias, Matrix y, Workers workers,
                   const ProductBackend* backend = nullptr) {
  assert(x.cols == w.cols && y.rows == x.rows && y.cols == w.rows &&
         "linear: shapes [n,in] [out,in] [n,out]");
  assert((bias.empty() || bias.size == w.rows) && "linear: the bias has one element per output");
  fill_rows(bias, y);
  if (backend != nullptr && backend->add_product(x, w, y, workers)) return;
  multiply_nt(x, w, 1.0f, y, workers);
}

} // namespace tenon::kernels

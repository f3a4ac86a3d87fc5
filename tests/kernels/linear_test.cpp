// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/linear.hpp>

#include <support/allocation_probe.hpp>
#include <support/naive.hpp>

#include <cstdint>
#include <initializer_list>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

FloatMatrix linear_of(const FloatMatrix& x, const StoredMatrix& w, WeightVector bias, Place place = {}) {
  FloatMatrix y(x.view.rows, w.view.rows, 9, place);
  const ExactScratch room(linear_scratch_bytes(x.view.rows, w.view.rows, w.view.cols));
  linear(x.view, w.view, bias, y.view, room.scratch());
  CHECK((room.guard_untouched() && y.padding_untouched()));
  return y;
}

} // namespace

TEST_CASE("A linear layer agrees with float64 for all sizes and dtypes") {
  for (const DType type : weight_dtypes)
    for (const std::int64_t rows : {1, 5, 17})
      for (const std::int64_t out : {std::int64_t{1}, gemm_tile_rows, gemm_tile_rows + 1})
        for (const std::int64_t in : {std::int64_t{1}, std::int64_t{31}, gemm_depth + 1}) {
          const FloatMatrix x(rows, in, 1, {.padding = 2});
          const StoredMatrix w(out, in, type, 2, {.padding = 1});
          const StoredMatrix bias(1, out, type, 3);
          Twin twin(rows, out);
          twin.add_all([&](auto, auto j) { return bias(0, j); });
          twin.add_product(1, in, x, [&](auto k, auto j) { return w(j, k); });
          const FloatMatrix y = linear_of(x, w, bias.vector(), {.padding = 3});
          INFO(dtype_name(type), " ", rows, " ", out, " ", in);
          CHECK(error_in_units(y.view, twin) <= static_cast<double>(in + 4));
        }
}

TEST_CASE("A linear layer without a bias starts from zero") {
  const FloatMatrix x(7, 12, 1);
  const StoredMatrix w(9, 12, DType::bf16, 2);
  Twin twin(7, 9);
  twin.add_product(1, 12, x, [&](auto k, auto j) { return w(j, k); });
  CHECK(error_in_units(linear_of(x, w, {}).view, twin) <= 16);
}

TEST_CASE("The bits of a linear layer do not depend on addresses") {
  for (const DType type : weight_dtypes) {
    const FloatMatrix y = linear_of(FloatMatrix(6, 300, 1), StoredMatrix(101, 300, type, 2),
                                    StoredMatrix(1, 101, type, 3).vector());
    const StoredMatrix shifted_bias(1, 101, type, 3, {.shift = 3});
    const FloatMatrix shifted =
        linear_of(FloatMatrix(6, 300, 1, {.shift = 4}), StoredMatrix(101, 300, type, 2, {.shift = 5}),
                  shifted_bias.vector(), {.shift = 12});
    CHECK(same_bits(y.view, shifted.view));
  }
}

TEST_CASE("A linear layer allocates nothing") {
  const FloatMatrix x(40, 96, 1);
  const StoredMatrix w(128, 96, DType::f16, 2);
  const StoredMatrix bias(1, 128, DType::f16, 3);
  FloatMatrix y(40, 128, 4);
  const ExactScratch room(linear_scratch_bytes(40, 128, 96));
  const AllocationProbe probe;
  linear(x.view, w.view, bias.vector(), y.view, room.scratch());
  const auto taken = probe.count();
  CHECK(taken == 0);
}

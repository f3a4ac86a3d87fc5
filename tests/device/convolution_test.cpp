// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "support/device_pair.hpp"
#include "support/step_case.hpp"

#include <tenon/layers/convolution.hpp>
#include <tenon/layers/joined_linear.hpp>

using namespace tenon;
using namespace tenon::test;

namespace {

/// An image [batch, height, width, in] under a kernel of its height and width.
StepCase convolution_of(kernels::Extent kernel, std::int64_t stride, std::int64_t padding, DType dtype) {
  const std::int64_t height = kernels::convolved(9, kernel.height, stride, padding);
  const std::int64_t width = kernels::convolved(7, kernel.width, stride, padding);
  StepCase one;
  one.input({2, 9, 7, 5})
      .weight(dtype, {6, 5, kernel.height, kernel.width})
      .weight(DType::f32, {6})
      .output({2, height, width, 6});
  one.context.params.integers = {1, stride, stride, 0, padding, padding};
  return one;
}

void check_convolution(StepCase& one, std::string_view op, DType dtype) {
  CHECK(difference(one.on_device(op),
                   one.on_host(&convolution_step<false>, &convolution_step_scratch<false>)) <= parity(dtype));
}

using Photo = Sequential<Conv2d<"in", 3, 8, 3, Padding<1>>, Silu, Conv2d<"point", 8, 8, 1>,
                         Conv2d<"down", 8, 12, 3, Stride<2>, Padding<1>>, GroupNorm<"norm", 3, 12>>;

} // namespace

TEST_CASE("Conv2d on a device is the host's for kernels, strides, padding and weights of any stored type") {
  for (const DType dtype : weight_dtypes)
    for (const kernels::Extent kernel : {kernels::Extent{1, 1}, {3, 3}, {2, 5}})
      for (const std::int64_t stride : {1, 2})
        for (const std::int64_t padding : {0, 1}) {
          CAPTURE(kernel.width);
          CAPTURE(stride);
          CAPTURE(padding);
          StepCase one = convolution_of(kernel, stride, padding, dtype);
          check_convolution(one, "Conv2d", dtype);
        }
}

TEST_CASE("Conv3d on a device is the host's") {
  StepCase one;
  one.input({2, 4, 5, 6, 3})
      .weight(DType::f32, {7, 3, 2, 3, 1})
      .weight(DType::f32, {7})
      .output({2, 2, 5, 6, 7});
  one.context.params.integers = {2, 1, 1, 0, 1, 0};
  check_convolution(one, "Conv3d", DType::f32);
}

TEST_CASE("Patches of more than a tile go in several") {
  CHECK(568 * 558 * 27 > 8 * 1024 * 1024); // floats of a tile
  StepCase one;
  one.input({1, 570, 560, 3})
      .weight(DType::f32, {2, 3, 3, 3})
      .weight(DType::f32, {2})
      .output({1, 568, 558, 2});
  one.context.params.integers = {1, 1, 1, 0, 0, 0};
  check_convolution(one, "Conv2d", DType::f32);
}

TEST_CASE("JoinedLinear on a device is the host's") {
  for (const DType dtype : weight_dtypes) {
    StepCase one;
    one.input({2, 5, 7}).input({2, 5, 12}).weight(dtype, {9, 19}).weight(dtype, {9}).output({2, 5, 9});
    CHECK(difference(one.on_device("JoinedLinear"), one.on_host(&joined_linear_step<false>)) <=
          parity(dtype));
  }
}

TEST_CASE("Adapters on a device's convolutions are the host's in every mode, and the base is back") {
  for (const DType dtype : weight_dtypes)
    in_each_mode([dtype]<class Mode>(Mode) {
      CAPTURE(dtype_name(dtype));
      CAPTURE(std::string(attach_mode_name(Mode::mode)));
      RandomPair<Photo> pair(dtype);
      const Tensor x = ramp({2, 10, 12, 3});
      CHECK(pair.error(x) <= parity(dtype));
      {
        const typename DevicePair<Photo>::template Both<Mode> both(pair, pair.tone, pair.other.scaled(-0.5));
        CHECK(pair.error(x) <= parity(dtype, DType::f32, Mode::mode));
      }
      CHECK(pair.error(x) <= parity(dtype));
      CHECK(pair.has_pristine_weights());
    });
}

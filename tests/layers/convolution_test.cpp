// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"
#include "support/allocation_probe.hpp"
#include "support/naive.hpp"
#include "support/naive_convolution.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

/// The layer's output against the definition, for an input [batch, (frames,) height, width, channels].
template <class Layer>
void check_convolution(const std::vector<std::int64_t>& shape, DType dtype = DType::f32) {
  CAPTURE(shape_text(shape));
  CAPTURE(dtype_name(dtype));
  OneLayer<Layer> layer(dtype);
  const Tensor x = wave(shape);
  const Tensor y = layer.session(x);
  const ConvolutionShape& c = Layer::convolution;
  const std::size_t n = shape.size();
  const kernels::PatchGrid grid{.batch = shape[0],
                                .image = {c.axes == 3 ? shape[1] : 1, shape[n - 3], shape[n - 2]},
                                .channels = shape[n - 1],
                                .kernel = c.kernel,
                                .stride = c.stride,
                                .padding = c.padding};
  const bool has_bias = weight_count<Layer> == 2;
  const std::vector<double> expected = naive_convolution(
      grid, x.values().data(), layer.weight(0), has_bias ? layer.weight(1) : std::vector<double>{}, c.out);
  REQUIRE(y.values().size() == expected.size());
  double error = 0;
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error = std::max(error, std::abs(static_cast<double>(y.values()[i]) - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  CHECK(error <= few_ulps * largest);
  for (const int threads : {2, 3}) {
    layer.session.use_threads(threads);
    CHECK(layer.session(x) == y);
  }
}

} // namespace

TEST_CASE("Conv2d is the sum over its kernel for kernels, strides, paddings and storage types") {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    check_convolution<Conv2d<"conv", 5, 7, 3, Padding<1>>>({2, 6, 4, 5}, dtype);
    check_convolution<Conv2d<"conv", 5, 7, 3, Stride<2>, Padding<1>>>({2, 6, 4, 5}, dtype);
    check_convolution<Conv2d<"conv", 5, 7, 1>>({2, 6, 4, 5}, dtype);
  }
  check_convolution<Conv2d<"conv", 5, 7, 1, Stride<2>, NoBias>>({2, 6, 4, 5});
  check_convolution<Conv2d<"conv", 3, 9, Extent{5, 3}, Padding<Extent{2, 1}>>>({1, 6, 5, 3});
  check_convolution<Conv2d<"conv", 3, 9, 4, Stride<2>, Padding<1>, NoSlot>>({1, 6, 8, 3});
  check_convolution<Conv2d<"conv", 3, 9, 4, Stride<4>, NoBias, NoSlot>>({3, 8, 12, 3});
  check_convolution<Conv2d<"conv", 3, 8, 8, Stride<8>>>({1, 16, 24, 3});
  check_convolution<Conv2d<"conv", 1, 1, 3, Padding<1>>>({1, 1, 1, 1});
}

TEST_CASE("Conv3d is the sum over its kernel") {
  check_convolution<Conv3d<"conv", 4, 6, Extent{1, 2, 2}, Stride<Extent{1, 2, 2}>>>({2, 3, 4, 6, 4});
  check_convolution<Conv3d<"conv", 4, 6, 3, Padding<1>>>({1, 3, 4, 5, 4});
  check_convolution<Conv3d<"conv", 4, 6, Extent{3, 1, 1}, Padding<Extent{1, 0, 0}>, NoBias>>({1, 4, 3, 2, 4});
  check_convolution<Conv3d<"conv", 4, 6, 1>>({2, 3, 2, 2, 4}, DType::bf16);
}

TEST_CASE("A convolution of more rows than a tile holds is the same") {
  // 36 floats a patch: 7281 rows in a tile of 1 MiB, of 8192
  check_convolution<Conv2d<"conv", 4, 3, 3, Padding<1>>>({2, 64, 64, 4});
  // 4608 floats: the least, 64 rows, of 150
  check_convolution<Conv2d<"conv", 512, 20, 3, Padding<1>>>({1, 15, 10, 512}, DType::bf16);
}

TEST_CASE("The weights of a convolution have torch's shapes and its slot takes them as a matrix") {
  using Net =
      Sequential<Conv2d<"two", 3, 8, Extent{5, 3}, Padding<Extent{2, 1}>>, Conv2d<"one", 8, 4, 1, NoBias>>;
  static_assert(weights<Net>[0].path == "two.weight");
  static_assert(std::ranges::equal(weights<Net>[0].shape, std::array<std::int64_t, 4>{8, 3, 5, 3}));
  static_assert(std::ranges::equal(weights<Net>[1].shape, std::array<std::int64_t, 1>{8}));
  static_assert(std::ranges::equal(weights<Net>[2].shape, std::array<std::int64_t, 4>{4, 8, 1, 1}));
  static_assert(slots<Net>[0].out == 8 && slots<Net>[0].in == 45 && slots<Net>[0].positions == 15);
  static_assert(slots<Net>[1].out == 4 && slots<Net>[1].in == 8 && slots<Net>[1].positions == 1);
  static_assert(slot_count<Conv2d<"c", 3, 8, 3, Padding<1>, NoSlot>> == 0);
  using Box = Conv3d<"box", 4, 6, Extent{1, 2, 2}, Stride<Extent{1, 2, 2}>>;
  static_assert(std::ranges::equal(weights<Box>[0].shape, std::array<std::int64_t, 5>{6, 4, 1, 2, 2}));
  static_assert(adapter_parameters<Net, LoraOfRank<2>>() == 2 * (45 + 8 + 8 + 4));
}

TEST_CASE("Named axes are divided by the stride and fixed ones follow torch's formula") {
  constexpr Shape image = Shape::of({batch_dim, height_dim, width_dim, fixed(8)});
  constexpr Shape half = Shape::of({batch_dim, height_dim / 2, width_dim / 2, fixed(4)});
  static_assert(output_shape<Conv2d<"c", 8, 4, 3, Stride<2>, Padding<1>>> == half);
  static_assert(output_shape<Conv2d<"c", 8, 4, 2, Stride<2>>> == half);
  static_assert(output_shape<Conv2d<"c", 8, 8, 3, Padding<1>>> == image);
  static_assert(output_shape<Sequential<UpsampleNearest<2>, Conv2d<"c", 8, 4, 3, Stride<2>, Padding<1>>>> ==
                image.with_width(4));
  constexpr ConvolutionShape odd{
      .in = 8, .out = 4, .kernel = {1, 3, 3}, .stride = {1, 2, 2}, .padding = {0, 1, 1}};
  static_assert(odd.gives(Shape::of({batch_dim, fixed(5), fixed(8), fixed(8)})) ==
                Shape::of({batch_dim, fixed(3), fixed(4), fixed(4)}));
  constexpr ConvolutionShape valid{.in = 8, .out = 4, .kernel = {1, 3, 3}};
  static_assert(valid.gives(Shape::of({batch_dim, fixed(5), fixed(3), fixed(8)})) ==
                Shape::of({batch_dim, fixed(3), fixed(1), fixed(4)}));
}

TEST_CASE("An image that the stride does not divide is refused") {
  OneLayer<Conv2d<"conv", 3, 4, 3, Stride<2>, Padding<1>>> layer;
  CHECK_THROWS_WITH_AS((void)layer.session(wave({1, 4, 5, 3})),
                       "this net computes on [batch, height/2, width/2, 4] (a wire inside): width must be a "
                       "multiple of 2, got 5; pad or crop the input",
                       shape_error);
}

TEST_CASE("A forward pass of convolutions allocates nothing and its scratch is bounded") {
  using Net =
      Sequential<Conv2d<"a", 3, 64, 3, Padding<1>>, GroupNorm<"norm", 8, 64>, Silu,
                 Conv2d<"b", 64, 64, 3, Stride<2>, Padding<1>>, UpsampleNearest<2>, Conv2d<"c", 64, 3, 1>>;
  OneLayer<Net> layer;
  layer.session.reserve({.batch = 1, .height = 64, .width = 64});
  const Tensor x = wave({1, 64, 64, 3});
  layer.session.run(x);
  const AllocationProbe probe;
  layer.session.run(x);
  const auto taken = probe.count();
  CHECK(taken == 0);
  CHECK(layer.session.scratch_bytes() <= 2 * MiB);
}

TEST_CASE("A convolution needs exactly the scratch that it states, whatever lies in it") {
  const FloatMatrix x(2 * 30 * 20, 24, 1);
  FloatMatrix y(2 * 30 * 20, 10, 2);
  const StoredMatrix w(10, 24 * 9, DType::bf16, 3);
  Factors factors(10, 24 * 9, 4, DType::f32, 0.5f, 4);
  SideTerm term{factors.term};
  const std::array<std::int64_t, 4> w_shape{10, 24, 3, 3};
  const std::array<std::int64_t, 2> flat_shape{10, 24 * 9};
  ActiveSlot slot;
  slot.weight = slot.base = TensorView(w.view.data, w.view.dtype, flat_shape);
  slot.terms.add(term);
  const std::array<WireView, 1> inputs{WireView{x.bytes.data(), DType::f32, 4, {2, 30, 20, 24}}};
  const std::array<TensorView, 2> weights{TensorView(w.view.data, w.view.dtype, w_shape), TensorView{}};
  StepContext context{.inputs = inputs,
                      .output = {y.bytes.data(), DType::f32, 4, {2, 30, 20, 10}},
                      .weights = weights,
                      .slot = &slot,
                      .params = {.integers = {1, 1, 1, 0, 1, 1}}};
  const ExactScratch scratch(convolution_step_scratch<true>(context));
  context.workers = scratch.scratch();
  convolution_step<true>(context);
  CHECK(scratch.guard_untouched());
  const kernels::PatchGrid grid{
      .batch = 2, .image = {1, 30, 20}, .channels = 24, .kernel = {1, 3, 3}, .padding = {0, 1, 1}};
  Twin twin(grid.rows(), 10);
  for_each_patch_element(grid, x.view.data, [&](std::int64_t row, std::int64_t col, double value) {
    for (std::int64_t o = 0; o < 10; ++o) {
      double both = w(o, col);
      double size = std::abs(both);
      for (std::int64_t r = 0; r < 4; ++r) {
        both += 0.5 * factors.b(o, r) * factors.a(r, col);
        size += 0.5 * std::abs(factors.b(o, r) * factors.a(r, col));
      }
      twin.add(row, o, value * both, std::abs(value) * size);
    }
  });
  CHECK(error_in_units(y.view, twin) <= 24 * 9 + 4);
}

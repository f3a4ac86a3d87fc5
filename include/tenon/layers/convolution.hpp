// SPDX-License-Identifier: Apache-2.0
// Conv2d<"name", In, Out, K> and Conv3d<"name", In, Out, K>: convolutions over images whose channels are last,
// [batch, height, width, in] or [batch, frames, height, width, in]; weights `name.weight` [out, in, kh, kw]
// ([out, in, kd, kh, kw]) and `name.bias` [out], named and shaped as torch.nn.Conv2d's and Conv3d's. With a slot for
// adapters of every kind unless told otherwise. Patches are gathered, at most about 1 MiB of them at a time, and
// multiplied with the weight; a kernel of one position with stride 1 takes the input as it is. Cost: 2 out positions
// in flops for each output position. There are no groups, no dilation, and the padding is zeros, as much on both
// sides.
#pragma once

#include <tenon/kernels/patches.hpp>
#include <tenon/layers/linear.hpp>
#include <tenon/layers/patch_grid.hpp>
#include <tenon/layers/slot_product.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>

namespace tenon {

using kernels::Extent;

/// Options of a convolution: a number for all axes, `Extent{height, width}` or `Extent{depth, height, width}`.
template <Extent Steps>
struct Stride {
  static constexpr Extent stride = Steps;
};
template <Extent Zeros>
struct Padding {
  static constexpr Extent padding = Zeros;
};

/// A convolution's numbers; with two axes the depth is 1.
struct ConvolutionShape {
  int axes = 2;
  std::int64_t in = 1;
  std::int64_t out = 1;
  Extent kernel = 1;
  Extent stride = 1;
  Extent padding = 0;

  [[nodiscard]] constexpr bool is_possible() const {
    const auto least = [](const Extent& e) { return std::min({e.depth, e.height, e.width}); };
    return in > 0 && out > 0 && least(kernel) > 0 && least(stride) > 0 && least(padding) >= 0;
  }
  /// The shape of the output. Precondition: `shape` is a grid of this many axes.
  [[nodiscard]] constexpr Shape gives(const Shape& shape) const;
};

/// One axis of the output. A named axis is known only as a multiple of the stride, so that the output must be
/// axis / stride for each of those: floor((n + 2 p - k) / s) + 1 = n / s where k - s <= 2 p < k.
[[nodiscard]] constexpr Dim convolved_dim(const Dim& dim, std::int64_t kernel, std::int64_t stride,
                                          std::int64_t padding) {
  if (!dim.is_fixed()) {
    if (2 * padding >= kernel || 2 * padding < kernel - stride)
      throw "tenon: a convolution must give a named axis / stride: k - s <= 2 padding < k";
    return dim / stride;
  }
  const std::int64_t extent = kernels::convolved(dim.extent, kernel, stride, padding);
  if (extent < 1) throw "tenon: a convolution's kernel is larger than its padded input";
  return fixed(extent);
}

constexpr Shape ConvolutionShape::gives(const Shape& shape) const {
  Shape given = shape.with_width(out);
  Dim* const last = given.dims + given.rank - 1;
  if (axes == 3) last[-3] = convolved_dim(last[-3], kernel.depth, stride.depth, padding.depth);
  last[-2] = convolved_dim(last[-2], kernel.height, stride.height, padding.height);
  last[-1] = convolved_dim(last[-1], kernel.width, stride.width, padding.width);
  return given;
}

/// Rows of patches that are gathered together: the most of about 1 MiB, and 64 of longer ones. Grows with `rows`.
[[nodiscard]] constexpr std::int64_t patch_tile_rows(std::int64_t rows, std::int64_t cols) noexcept {
  constexpr std::int64_t floats = std::int64_t{1024} * 1024 / 4;
  return std::min(rows, std::max<std::int64_t>(floats / cols, 64));
}

/// Tiles depend on the shapes alone, and so do the bits of the result.
template <bool HasSlot>
void convolution_step(const StepContext& context) {
  const kernels::PatchGrid grid = patch_grid(context);
  const kernels::ConstMatrix x = context.inputs[0].const_matrix();
  const kernels::Matrix y = context.output.matrix();
  if (grid.are_rows()) return slot_product<HasSlot>(context, x, y, context.workers);
  const std::int64_t cols = grid.cols();
  const std::int64_t most = patch_tile_rows(y.rows, cols);
  const std::int64_t tiles = (y.rows + most - 1) / most;
  const std::int64_t even = ((y.rows + tiles - 1) / tiles + 15) / 16 * 16; // no short last one, whole vectors
  const std::int64_t step = std::min(even, most);
  kernels::Workers workers = context.workers;
  const std::span<float> zeros = workers.take<float>(grid.channels);
  std::fill(zeros.begin(), zeros.end(), 0.0f);
  const kernels::Matrix tile{workers.take<float>(most * cols).data(), most, cols, cols};
  for (std::int64_t i = 0; i < y.rows; i += step) {
    const std::int64_t rows = std::min(step, y.rows - i);
    workers.share(rows, 1, 2 * cols, [&](std::int64_t first, std::int64_t count, kernels::Scratch) {
      kernels::gather_patches(x.data, grid, i + first, zeros.data(), tile.rows_from(first, count));
    });
    slot_product<HasSlot>(context, tile.rows_from(0, rows), y.rows_from(i, rows), workers);
  }
}

template <bool HasSlot>
std::int64_t convolution_step_scratch(const StepContext& context) {
  const kernels::PatchGrid grid = patch_grid(context);
  const std::int64_t rows = context.output.rows();
  const auto product = [&](std::int64_t count) {
    return slot_product_scratch_bytes<HasSlot>(count, context.output.width(), grid.cols(),
                                               context.has_deltas);
  };
  if (grid.are_rows()) return product(rows);
  const std::int64_t most = patch_tile_rows(rows, grid.cols());
  return kernels::scratch_sum({kernels::scratch_bytes<float>(grid.channels),
                               kernels::scratch_bytes<float>(most * grid.cols()), product(most)});
}

/// Appends the step of a convolution. Not a template, so that many distinct layers compile it once.
[[nodiscard]] constexpr WireId lower_convolution(Builder& builder, WireId x, std::string_view name,
                                                 const ConvolutionShape& shape, bool has_bias,
                                                 std::uint32_t slot_kinds) {
  const bool has_depth = shape.axes == 3;
  const Extent& kernel = shape.kernel;
  const std::size_t mark = builder.enter(name);
  slot_kinds = builder.open_kinds(slot_kinds);
  const bool has_slot = slot_kinds != 0;
  const std::int32_t weight =
      has_depth ? builder.weight("weight", {shape.out, shape.in, kernel.depth, kernel.height, kernel.width})
                : builder.weight("weight", {shape.out, shape.in, kernel.height, kernel.width});
  const std::int32_t bias = has_bias ? builder.weight("bias", {shape.out}) : no_index;
  const WireId y = builder.step(
      {.op = has_depth ? "Conv3d" : "Conv2d",
       .run = has_slot ? &convolution_step<true> : &convolution_step<false>,
       .scratch = has_slot ? &convolution_step_scratch<true> : &convolution_step_scratch<false>,
       .inputs = {x},
       .output = shape.gives(builder.shape(x)),
       .weights = {weight, bias},
       .slot = builder.slot(slot_kinds, weight, bias),
       .params = {.integers = {shape.stride.depth, shape.stride.height, shape.stride.width,
                               shape.padding.depth, shape.padding.height, shape.padding.width}}});
  builder.leave(mark);
  return y;
}

/// What a list of options says, beside those of Linear.
template <class... Options>
struct ConvolutionOptions : LinearOptions<Options...> {
  static constexpr Extent stride = [] {
    Extent chosen = 1;
    [[maybe_unused]] const auto take = [&chosen]<class Option>() {
      if constexpr (requires { Option::stride; }) chosen = Option::stride;
    };
    (take.template operator()<Options>(), ...);
    return chosen;
  }();
  static constexpr Extent padding = [] {
    Extent chosen = 0;
    [[maybe_unused]] const auto take = [&chosen]<class Option>() {
      if constexpr (requires { Option::padding; }) chosen = Option::padding;
    };
    (take.template operator()<Options>(), ...);
    return chosen;
  }();
};

/// Two axes of an extent that has no third.
[[nodiscard]] constexpr bool is_of_plane(const Extent& extent) noexcept {
  return extent.depth == Extent::no_depth || (extent.depth == extent.height && extent.depth == extent.width);
}
[[nodiscard]] constexpr Extent in_plane(const Extent& extent, std::int64_t depth) noexcept {
  return {depth, extent.height, extent.width};
}

/// Options, in any order: `Stride<S>` (1), `Padding<P>` (0), `NoBias`, `Slot<Kinds...>` or `NoSlot` (`AnySlot`).
/// A kernel is a number, for a square, or `Extent{height, width}`.
template <fixed_string Name, std::int64_t In, std::int64_t Out, Extent Kernel, class... Options>
struct Conv2d {
  using Chosen = ConvolutionOptions<Options...>;
  static_assert(is_of_plane(Kernel) && is_of_plane(Chosen::stride) && is_of_plane(Chosen::padding),
                "tenon::Conv2d: kernel, stride and padding are a number or Extent{height, width}");
  static constexpr ConvolutionShape convolution{
      2, In, Out, in_plane(Kernel, 1), in_plane(Chosen::stride, 1), in_plane(Chosen::padding, 0)};
  static_assert(convolution.is_possible(),
                "tenon::Conv2d: channels, kernel and stride are positive, and no padding is negative");

  static constexpr bool is_well_formed = convolution.is_possible();
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::grid_of(In, 2); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return convolution.gives(shapes[0]); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return lower_convolution(builder, wires[0], Name.view(), convolution, Chosen::has_bias,
                             Chosen::slot_kinds);
  }
};

/// The same over frames as well; a kernel is a number, for a cube, or `Extent{depth, height, width}`.
template <fixed_string Name, std::int64_t In, std::int64_t Out, Extent Kernel, class... Options>
struct Conv3d {
  using Chosen = ConvolutionOptions<Options...>;
  static constexpr ConvolutionShape convolution{3, In, Out, Kernel, Chosen::stride, Chosen::padding};
  static_assert(Kernel.depth != Extent::no_depth && Chosen::stride.depth != Extent::no_depth &&
                    Chosen::padding.depth != Extent::no_depth,
                "tenon::Conv3d: kernel, stride and padding are a number or Extent{depth, height, width}");
  static_assert(convolution.is_possible(),
                "tenon::Conv3d: channels, kernel and stride are positive, and no padding is negative");

  static constexpr bool is_well_formed = convolution.is_possible();
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::grid_of(In, 3); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return convolution.gives(shapes[0]); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return lower_convolution(builder, wires[0], Name.view(), convolution, Chosen::has_bias,
                             Chosen::slot_kinds);
  }
};

} // namespace tenon

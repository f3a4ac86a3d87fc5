// SPDX-License-Identifier: Apache-2.0
// What image transformers do around their blocks, beside the convolution that cuts patches: Unpatchify puts patches
// together again; AddCroppedTable adds the middle of a learned square of positions.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/core/text.hpp>
#include <tenon/graph/op.hpp>
#include <tenon/kernels/patches.hpp>
#include <tenon/layers/table_rows.hpp>

#include <array>

namespace tenon {

/// params.integers: channels and the patch's depth, height and width. Tokens run over frames, rows and columns; a token's
/// numbers over the patch in the same order, channels last.
inline void unpatchify_step(const StepContext& context) {
  const WireView& image = context.output; // [batch, channels, (frames,) height, width]
  const auto& params = context.params.integers;
  const std::int64_t channels = params[0];
  const bool has_frames = image.rank == 5;
  const std::array<std::int64_t, 3> extents{has_frames ? image.extent(2) : 1, image.extent(image.rank - 2),
                                            image.extent(image.rank - 1)};
  const std::array<std::int64_t, 3> patch{params[1], params[2], params[3]};
  const float* const from = context.inputs[0].values().data();
  float* const to = context.output.values().data();
  const std::int64_t rows = extents[1] / patch[1];
  const std::int64_t columns = extents[2] / patch[2];
  const std::int64_t numbers = patch[0] * patch[1] * patch[2] * channels;
  context.workers.share(
      image.extent(0) * channels * extents[0] * extents[1], 1, extents[2],
      [&](std::int64_t first, std::int64_t count, kernels::Scratch) {
        for (std::int64_t line = first; line < first + count; ++line) {
          const std::int64_t y = line % extents[1];
          const std::int64_t z = line / extents[1] % extents[0];
          const std::int64_t c = line / (extents[1] * extents[0]) % channels;
          const std::int64_t b = line / (extents[1] * extents[0] * channels);
          const std::int64_t row = (b * (extents[0] / patch[0]) + z / patch[0]) * rows + y / patch[1];
          const std::int64_t inside = (z % patch[0] * patch[1] + y % patch[1]) * patch[2];
          for (std::int64_t x = 0; x < extents[2]; ++x)
            to[line * extents[2] + x] =
                from[(row * columns + x / patch[2]) * numbers + (inside + x % patch[2]) * channels + c];
        }
      });
}

/// Tokens [batch, ..., patch * C], and an image [batch, any, (frames,) height, width] that says how large ->
/// [batch, C, (frames,) height, width].
template <std::int64_t C, kernels::Extent Patch>
struct Unpatchify {
  static constexpr std::int64_t depth = Patch.depth == kernels::Extent::no_depth ? 1 : Patch.depth;
  static_assert(C > 0 && depth > 0 && Patch.height > 0 && Patch.width > 0,
                "tenon::Unpatchify: channels and a patch of positive extents");

  static constexpr std::size_t inputs = 2;
  static constexpr Shape takes(std::size_t input) {
    return input == 0 ? Shape::rows_of(C * depth * Patch.height * Patch.width) : Shape::any();
  }
  static constexpr Shape gives(std::span<const Shape> shapes) {
    Shape shape = shapes[1];
    if (shape.rank > 3) shape.dims[1] = fixed(C);
    return shape;
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const Shape shapes[] = {builder.shape(wires[0]), builder.shape(wires[1])};
    if (shapes[1].rank < 4)
      throw "tenon::Unpatchify: the second wire is an image [batch, channels, height, width]";
    return builder.step({.op = "Unpatchify",
                         .run = &unpatchify_step,
                         .inputs = {wires[0], wires[1]},
                         .output = gives(shapes),
                         .params = {.integers = {C, depth, Patch.height, Patch.width}}});
  }
};

inline void add_cropped_table_step(const StepContext& context) {
  const TensorView& table = context.weights[0];
  const TablePlaces places = cropped_places(context);
  const std::int64_t width = context.inputs[0].width();
  add_table_rows(context, {table.data, table.dtype, places.side * places.side, width, width}, places);
}

/// x [batch, height, width, d] + the middle of `Name` [1, Side * Side, d], as Stable Diffusion 3 has it (Esser et al.
/// 2024, arXiv 2403.03206). Throws `shape_error` for an image of more than Side patches.
template <fixed_string Name, std::int64_t Side, std::int64_t D>
struct AddCroppedTable {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(D); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    if (builder.shape(wires[0]).rank != 4)
      throw "tenon::AddCroppedTable: it reads [batch, height, width, channels]";
    const std::int32_t table = builder.weight(Name.view(), {1, Side * Side, D});
    return builder.step({.op = "AddCroppedTable",
                         .run = &add_cropped_table_step,
                         .inputs = {wires[0]},
                         .output = builder.shape(wires[0]),
                         .weights = {table},
                         .params = {.integers = {Side}},
                         .in_place = 1});
  }
};

} // namespace tenon

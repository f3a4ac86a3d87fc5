// SPDX-License-Identifier: Apache-2.0
// Repeat<"layer", 6, Block>: the block six times, its weights under `layer.0.` ... `layer.5.`. The first
// input is carried from one time to the next, further inputs (a mask, a context) are the same each time. The
// block's type is instantiated once and its program holds one loop, whatever the count.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/mandate.hpp>

#include <array>
#include <cstring>

namespace tenon {

/// Copies the input's bytes; does nothing where the plan gave both wires one buffer.
inline void copy_step(const StepContext& context) {
  if (context.output.data != context.inputs[0].data)
    std::memcpy(context.output.data, context.inputs[0].data,
                static_cast<std::size_t>(context.output.bytes()));
}

template <class Block>
[[nodiscard]] consteval std::array<Shape, Block::inputs> opened_inputs() {
  std::array<Shape, Block::inputs> shapes{};
  for (std::size_t i = 0; i < Block::inputs; ++i) shapes[i] = Block::takes(i).opened();
  return shapes;
}

template <class Block>
[[nodiscard]] consteval std::int64_t block_gives() {
  if constexpr (well_formed<Block>())
    return Block::gives(opened_inputs<Block>()).width();
  else
    return Block::takes(0).width();
}

template <class Block, std::int64_t Gives, std::int64_t Takes>
struct RepeatKeepsWidth {
  static_assert(Gives == Takes, "tenon::Repeat: a repeated block must give the width that it takes");
};

template <fixed_string Name, std::int64_t Count, class Block>
struct Repeat : IsGraphOp<Block>, RepeatKeepsWidth<Block, block_gives<Block>(), Block::takes(0).width()> {
  static_assert(Count > 0, "tenon::Repeat: the count must be at least 1");

  static constexpr bool is_well_formed =
      well_formed<Block>() && block_gives<Block>() == Block::takes(0).width();
  static constexpr std::size_t inputs = Block::inputs;
  static constexpr std::size_t required_inputs = tenon::required_inputs<Block>();
  static constexpr Shape takes(std::size_t input) { return Block::takes(input); }
  static constexpr Shape gives(std::span<const Shape> in) { return Block::gives(in); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> in) {
    std::array<WireId, Block::inputs> wires{};
    for (std::size_t i = 0; i < in.size(); ++i) wires[i] = in[i];
    wires[0] = builder.begin_loop(Count, in[0], &copy_step);
    const std::size_t name = builder.enter(Name.view());
    (void)builder.enter_loop_index();
    const WireId out = Block::lower(builder, std::span<const WireId>(wires.data(), in.size()));
    builder.leave(name);
    if (!(builder.shape(out) == builder.shape(in[0])))
      throw "tenon::Repeat: a repeated block must give the shape that it takes";
    return builder.end_loop(out);
  }
};

} // namespace tenon

// SPDX-License-Identifier: Apache-2.0
// Repeat<"layer", 6, Block>: the block six times, its weights under `layer.0.` ... `layer.5.`. What the block gives is
// carried to its first inputs of the next time (several wires where it is a Graph with several outputs); further inputs
// (a mask, a context) are the same each time. The block's type is instantiated once and its program holds one loop,
// whatever the count. Repeat<"layer", 1, Last, 6> goes on from index 6: blocks of other types after those of one.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/mandate.hpp>

#include <array>
#include <cstring>
#include <utility>

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

/// The width of wire `I` after the block.
template <class Block, std::size_t I>
[[nodiscard]] consteval std::int64_t block_gives() {
  if constexpr (well_formed<Block>())
    return gives_all<Block>(opened_inputs<Block>())[I].width();
  else
    return Block::takes(I).width();
}

template <class Block, std::int64_t Gives, std::int64_t Takes>
struct RepeatKeepsWidth {
  static_assert(Gives == Takes, "tenon::Repeat: a repeated block must give the width that it takes");
};

/// The first carried wire whose width a block changes, or the number of those that are carried: as many as it gives.
template <class Block>
[[nodiscard]] consteval std::size_t changed_width() {
  return []<std::size_t... I>(std::index_sequence<I...>) {
    std::size_t n = 0;
    (void)((block_gives<Block, I>() == Block::takes(I).width() && (++n, true)) && ...);
    return n;
  }(std::make_index_sequence<output_count<Block>()>{});
}

template <class Block, std::size_t Changed, bool Keeps>
struct RepeatMandate : RepeatKeepsWidth<Block, block_gives<Block, Changed>(), Block::takes(Changed).width()> {
};
template <class Block, std::size_t Changed>
struct RepeatMandate<Block, Changed, true> {};

template <fixed_string Name, std::int64_t Count, class Block, std::int64_t First = 0>
struct Repeat
    : IsGraphOp<Block>,
      RepeatMandate<Block, changed_width<Block>(), changed_width<Block>() == tenon::output_count<Block>()> {
  static_assert(Count > 0, "tenon::Repeat: the count must be at least 1");
  static_assert(First >= 0, "tenon::Repeat: the first index must not be negative");

  static constexpr bool is_well_formed =
      well_formed<Block>() && changed_width<Block>() == tenon::output_count<Block>();
  static constexpr std::size_t inputs = Block::inputs;
  static constexpr std::size_t required_inputs = tenon::required_inputs<Block>();
  static constexpr std::size_t output_count = tenon::output_count<Block>();
  static_assert(output_count <= inputs, "tenon::Repeat: a repeated block must take each wire that it gives");
  static constexpr Shape takes(std::size_t input) { return Block::takes(input); }
  static constexpr Shape gives(std::span<const Shape> in) { return Block::gives(in); }
  static constexpr OutputShapes<Block> gives_all(std::span<const Shape> in) {
    return tenon::gives_all<Block>(in);
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> in) {
    return lower_all(builder, in)[0];
  }
  static constexpr OutputWires<Block> lower_all(Builder& builder, std::span<const WireId> in) {
    std::array<WireId, Block::inputs> wires{};
    for (std::size_t i = 0; i < in.size(); ++i) wires[i] = in[i];
    builder.begin_loop(Count, First, std::span<WireId>(wires.data(), output_count), &copy_step);
    const std::size_t name = builder.enter(Name.view());
    (void)builder.enter_loop_index();
    const std::span<const WireId> given(wires.data(), in.size());
    OutputWires<Block> out = tenon::lower_all<Block>(builder, given);
    builder.leave(name);
    for (std::size_t i = 0; i < output_count; ++i)
      if (!(builder.shape(out[i]) == builder.shape(in[i])))
        throw "tenon::Repeat: a repeated block must give the shape that it takes";
    builder.end_loop(out, &copy_step);
    return out;
  }
};

} // namespace tenon

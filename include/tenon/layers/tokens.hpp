// SPDX-License-Identifier: Apache-2.0
// Ops that choose or add whole tokens of [batch, tokens, d]: LastToken, TokenAt (the one whose id says so),
// PrependToken (a learned one), AddTable (a learned number for each place and channel), Flatten (the places of an image
// as tokens).
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/core/text.hpp>
#include <tenon/graph/op.hpp>
#include <tenon/graph/repeat.hpp>
#include <tenon/layers/table_rows.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <cstring>

namespace tenon {

inline void last_token_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const std::int64_t tokens = x.rows() / x.extent(0);
  for (std::int64_t i = 0; i < x.extent(0); ++i)
    std::ranges::copy(x.const_matrix().row_span(i * tokens + tokens - 1), context.output.matrix().row(i));
}

/// The last token of each sequence: [batch, tokens, d] -> [batch, d].
template <std::int64_t D>
struct LastToken {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::of({batch_dim, tokens_dim, fixed(D)}); }
  static constexpr Shape gives(std::span<const Shape>) { return Shape::of({batch_dim, fixed(D)}); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "LastToken",
                         .run = &last_token_step,
                         .inputs = {wires[0]},
                         .output = Shape::of({batch_dim, fixed(D)})});
  }
};

/// params.integers[0]: the id to look for, or -1 for the largest.
inline void token_at_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const std::int64_t tokens = x.extent(1);
  const std::int64_t wanted = context.params.integers[0];
  for (std::int64_t i = 0; i < x.extent(0); ++i) {
    const std::span<const std::int32_t> ids = context.inputs[1].ids().subspan(
        static_cast<std::size_t>(i * tokens), static_cast<std::size_t>(tokens));
    const auto found = wanted < 0 ? std::ranges::max_element(ids)
                                  : std::ranges::find(ids, static_cast<std::int32_t>(wanted));
    if (found == ids.end())
      throw shape_error(ErrorCode::bad_argument, concat("sequence ", i, " has no token with id ", wanted,
                                                        ", whose hidden state is the net's output"));
    std::ranges::copy(x.const_matrix().row_span(i * tokens + (found - ids.begin())),
                      context.output.matrix().row(i));
  }
}

/// The first token with this id, or (Id = -1) the first with the largest: x [batch, tokens, d], ids [batch, tokens] (I32)
/// -> [batch, d]. How CLIP's text encoder finds the end of the text. Throws `error{bad_argument}` in a forward pass where
/// a sequence does not have the id.
template <std::int64_t D, std::int64_t Id>
struct TokenAt {
  static constexpr std::size_t inputs = 2;
  static constexpr Shape takes(std::size_t input) {
    return input == 0 ? Shape::of({batch_dim, tokens_dim, fixed(D)})
                      : Shape::of({batch_dim, tokens_dim}, DType::i32);
  }
  static constexpr Shape gives(std::span<const Shape>) { return Shape::of({batch_dim, fixed(D)}); }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "TokenAt",
                         .run = &token_at_step,
                         .inputs = {wires[0], wires[1]},
                         .output = Shape::of({batch_dim, fixed(D)}),
                         .params = {.integers = {Id}}});
  }
};

inline void prepend_token_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const WireView& y = context.output;
  const TensorView& token = context.weights[0];
  const std::int64_t tokens = x.rows() / x.extent(0);
  const std::int64_t width = x.width();
  for (std::int64_t i = 0; i < x.extent(0); ++i) {
    decode(token.dtype, token.data, width, y.matrix().row(i * (tokens + 1)));
    std::copy_n(x.const_matrix().row(i * tokens), tokens * width, y.matrix().row(i * (tokens + 1) + 1));
  }
}

/// The learned token `Name` [1, 1, d] before the others: [batch, n, d] -> [batch, n + 1, d].
template <fixed_string Name, std::int64_t D>
struct PrependToken {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(D); }
  static constexpr Shape gives(std::span<const Shape> shapes) {
    Shape shape = shapes[0];
    if (shape.rank == 3) shape.dims[1] = shape.dims[1] + fixed(1);
    return shape;
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const Shape shape = builder.shape(wires[0]);
    if (shape.rank != 3) throw "tenon::PrependToken: it reads [batch, tokens, channels]";
    const std::int32_t token = builder.weight(Name.view(), {1, 1, D});
    return builder.step({.op = "PrependToken",
                         .run = &prepend_token_step,
                         .inputs = {wires[0]},
                         .output = gives(std::span<const Shape>(&shape, 1)),
                         .weights = {token}});
  }
};

inline void add_table_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const TensorView& table = context.weights[0];
  const kernels::WeightMatrix rows{table.data, table.dtype, table.size() / x.width(), x.width(), x.width()};
  add_table_rows(context, rows, {.width = rows.rows});
}

/// x + `Name` [1, count, d] for each sequence [count, d].
template <fixed_string Name, std::int64_t Count, std::int64_t D>
struct AddTable {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::of({batch_dim, fixed(Count), fixed(D)}); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const std::int32_t table = builder.weight(Name.view(), {1, Count, D});
    return builder.step({.op = "AddTable",
                         .run = &add_table_step,
                         .inputs = {wires[0]},
                         .output = builder.shape(wires[0]),
                         .weights = {table},
                         .in_place = 1});
  }
};

/// [batch, height, width, d] -> [batch, height * width, d]; nothing moves where the input ends here.
template <std::int64_t D>
struct Flatten {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(D); }
  static constexpr Shape gives(std::span<const Shape> shapes) {
    const Shape& x = shapes[0];
    Dim places = fixed(1);
    for (int i = 1; i + 1 < x.rank; ++i) places = places * x.dims[i];
    return Shape::of({x.dims[0], places, x.dims[x.rank - 1]}, x.dtype);
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const Shape shape = builder.shape(wires[0]);
    return builder.step({.op = "Flatten",
                         .run = &copy_step,
                         .inputs = {wires[0]},
                         .output = gives(std::span<const Shape>(&shape, 1)),
                         .in_place = 1});
  }
};

} // namespace tenon

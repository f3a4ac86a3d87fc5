// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace tenon;
using namespace tenon::test;

namespace {

// A user's op: every second row and column of an image.
void thin_out_step(const StepContext& context) {
  const WireView& x = context.inputs[0];
  const WireView& y = context.output;
  const std::int64_t height = y.extent(1);
  const std::int64_t width = y.extent(2);
  for (std::int64_t row = 0; row < y.rows(); ++row) {
    const std::int64_t image = row / (height * width);
    const std::int64_t from =
        (image * x.extent(1) + row / width % height * 2) * x.extent(2) + row % width * 2;
    std::ranges::copy(x.const_matrix().row_span(from), y.matrix().row(row));
  }
}

template <std::int64_t D>
struct ThinOut {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) {
    return Shape::of({batch_dim, height_dim, width_dim, fixed(D)});
  }
  static constexpr Shape gives(std::span<const Shape>) {
    return Shape::of({batch_dim, height_dim / 2, width_dim / 2, fixed(D)});
  }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "ThinOut", .run = &thin_out_step, .inputs = {wires[0]}, .output = gives({})});
  }
};

} // namespace

TEST_CASE("The last token of each sequence is copied") {
  using Net =
      Graph<Inputs<"x">, Let<"h", Linear<"fc", 3, 4>, "x">, Let<"y", LastToken<4>, "h">, Outputs<"y", "h">>;
  static_assert(output_shape<Net> == Shape::of({batch_dim, fixed(4)}));
  OneLayer<Net> layer;
  for (const std::int64_t tokens : {1, 5}) {
    const auto [y, h] = layer.session(wave({3, tokens, 3}));
    CHECK(std::ranges::equal(y.shape(), std::vector<std::int64_t>{3, 4}));
    for (std::int64_t i = 0; i < 3; ++i) CHECK(std::ranges::equal(y.row(i), h.row((i + 1) * tokens - 1)));
  }
}

TEST_CASE("The token at the first place of an id is copied, or of the largest id") {
  using Net =
      Graph<Inputs<"ids">, Let<"h", Embedding<"words", 9, 4>, "ids">, Let<"named", TokenAt<4, 7>, "h", "ids">,
            Let<"largest", TokenAt<4, -1>, "h", "ids">, Let<"placed", AddPositions<"positions", 8, 4>, "h">,
            Let<"named_place", TokenAt<4, 7>, "placed", "ids">,
            Let<"largest_place", TokenAt<4, -1>, "placed", "ids">,
            Outputs<"named", "largest", "named_place", "largest_place", "placed">>;
  OneLayer<Net> layer;
  const std::vector<std::int32_t> ids{3, 7, 8, 7, 8, 7, 1, 2, 7, 3};
  const auto [named, largest, named_place, largest_place, placed] = layer.session(view(ids, {2, 5}));
  const std::vector<double> words = layer.weight(0);
  for (std::size_t d = 0; d < 4; ++d)
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(static_cast<double>(named.values()[i * 4 + d]) == words[7 * 4 + d]);
      CHECK(static_cast<double>(largest.values()[i * 4 + d]) == words[(i == 0 ? 8 : 7) * 4 + d]);
    }
  CHECK(std::ranges::equal(named_place.row(0), placed.row(1))); // of two, the first
  CHECK(std::ranges::equal(named_place.row(1), placed.row(5)));
  CHECK(std::ranges::equal(largest_place.row(0), placed.row(2)));
  CHECK(std::ranges::equal(largest_place.row(1), placed.row(5)));
}

TEST_CASE("A sequence without the id is refused and the session goes on") {
  using Net = Graph<Inputs<"ids">, Let<"h", Embedding<"words", 9, 4>, "ids">,
                    Let<"y", TokenAt<4, 7>, "h", "ids">, Outputs<"y">>;
  OneLayer<Net> layer;
  const std::vector<std::int32_t> ids{7, 1, 2, 6};
  CHECK_THROWS_WITH_AS((void)layer.session(view(ids, {2, 2})),
                       "sequence 1 has no token with id 7, whose hidden state is the net's output",
                       shape_error);
  const std::vector<std::int32_t> good{7, 1, 2, 7};
  CHECK_NOTHROW((void)layer.session(view(good, {2, 2})));
}

TEST_CASE("A learned token stands before the others of each sequence") {
  using Net = Graph<Inputs<"x">, Let<"h", Linear<"fc", 3, 4>, "x">, Let<"y", PrependToken<"cls", 4>, "h">,
                    Outputs<"y", "h">>;
  static_assert(output_shape<Net> == Shape::of({batch_dim, tokens_dim + fixed(1), fixed(4)}));
  static_assert(weights<Net>.back().path == "cls");
  for (const DType dtype : {f32, bf16}) {
    OneLayer<Net> layer(dtype);
    const std::vector<double> token = layer.weight(2);
    REQUIRE(token.size() == 4);
    for (const std::int64_t tokens : {3, 1}) {
      const auto [y, h] = layer.session(wave({2, tokens, 3}));
      CHECK(std::ranges::equal(y.shape(), std::vector<std::int64_t>{2, tokens + 1, 4}));
      for (std::int64_t i = 0; i < 2; ++i) {
        for (std::size_t d = 0; d < 4; ++d)
          CHECK(static_cast<double>(y.row(i * (tokens + 1))[d]) == token[d]);
        for (std::int64_t t = 0; t < tokens; ++t)
          CHECK(std::ranges::equal(y.row(i * (tokens + 1) + 1 + t), h.row(i * tokens + t)));
      }
    }
  }
}

TEST_CASE("A table is added to each sequence, place by place") {
  using Net = Sequential<AddTable<"table", 3, 70>>;
  static_assert(output_shape<Net> == Shape::of({batch_dim, fixed(3), fixed(70)}));
  for (const DType dtype : {f32, f16}) {
    OneLayer<Net> layer(dtype);
    const Tensor x = wave({2, 3, 70});
    const Tensor y = layer.session(x);
    const std::vector<double> table = layer.weight(0);
    for (std::size_t i = 0; i < x.values().size(); ++i)
      CHECK(y.values()[i] == x.values()[i] + static_cast<float>(table[i % (3 * 70)]));
  }
}

TEST_CASE("An image becomes a sequence of its places, row by row, and nothing moves") {
  using Thin = Sequential<ThinOut<3>, Linear<"fc", 3, 2>>;
  using Net = Sequential<Thin, Flatten<2>>;
  CHECK(shape_text(output_shape<Net>) == "[batch, height/2*width/2, 2]");
  constexpr Dims dims{.batch = 2, .height = 32, .width = 48};
  static_assert(activation_bytes<Net>(dims) == activation_bytes<Thin>(dims));
  OneLayer<Thin> thin;
  const auto model = open<Net>(thin.folder.file("m.safetensors"));
  Session flat(model, {.batch = 2, .height = 4, .width = 6});
  Session image(thin.model, {.batch = 2, .height = 4, .width = 6});
  const Tensor x = wave({2, 4, 6, 3});
  const Tensor y = flat(x);
  const Tensor expected = image(x);
  CHECK(std::ranges::equal(expected.shape(), std::vector<std::int64_t>{2, 2, 3, 2}));
  CHECK(std::ranges::equal(y.shape(), std::vector<std::int64_t>{2, 6, 2}));
  CHECK(std::ranges::equal(y.values(), expected.values()));
}

// SPDX-License-Identifier: Apache-2.0
// Small decoders and a text for them: what tests of a cache of keys and values run, on the host and on devices.
#pragma once

#include <tenon/tenon.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tenon::test {

/// Two heads of four share keys and values of four: 8 floats of each token are kept in each layer.
template <class Attend>
using DecoderLayer =
    Graph<Inputs<"x">, Let<"q_flat", Linear<"q", 8, 8>, "x">, Let<"k_flat", Linear<"k", 8, 4>, "x">,
          Let<"v", Linear<"v", 8, 4>, "x">, Let<"q", Rotary<8, 4>, "q_flat">,
          Let<"k", Rotary<4, 4>, "k_flat">, Let<"heads", Attend, "q", "k", "v">,
          Let<"out", Linear<"o", 8, 8>, "heads">, Let<"y", Add, "x", "out">, Outputs<"y">>;

inline constexpr Heads two_heads{.count = 2, .width = 4, .shared = 1};
using Plain = Attention<two_heads, Causal>;
using Biased = Attention<two_heads, Causal, Unscaled, RelativeBias<"distances", 8, 12>>;

/// The learned positions of a DecoderBody.
inline constexpr std::int64_t decoder_positions = 40;

/// Hidden states of all tokens.
template <class Attend, std::int64_t Layers>
using DecoderBody = Sequential<Embedding<"words", 11, 8>, AddPositions<"positions", decoder_positions, 8>,
                               Repeat<"layer", Layers, DecoderLayer<Attend>>>;
using Decoder = Sequential<DecoderBody<Plain, 3>, Linear<"head", 8, 11>>;

/// The hidden state of the first token with id 7: a forward pass that may fail at its end.
using AtSeven = Graph<Inputs<"ids">, Let<"h", DecoderBody<Plain, 2>, "ids">,
                      Let<"y", TokenAt<8, 7>, "h", "ids">, Outputs<"y">>;

/// A causal attention with a mask.
using MaskedDecoder = Graph<Inputs<"x", "mask">, Let<"q", Linear<"q", 8, 8>, "x">,
                            Let<"y", Attention<Heads{1, 8}, Causal>, "q", "x", "x", "mask">, Outputs<"y">>;

inline constexpr std::array<std::int32_t, 20> text{3, 1, 4, 1, 5, 9, 2, 6, 5, 3,
                                                   5, 8, 9, 7, 9, 3, 2, 3, 8, 4};

/// `count` tokens of the text from `first` on, of one sequence.
[[nodiscard]] inline TensorView ids(std::size_t first, std::size_t count) {
  return view(std::span(text).subspan(first, count), {1, static_cast<std::int64_t>(count)});
}

[[nodiscard]] inline std::vector<float> values_of(const TensorView& y) {
  const auto* const first = reinterpret_cast<const float*>(y.data);
  return {first, first + y.size()};
}

/// Kernels for few rows add in another order than those for many.
inline constexpr double another_order = 1e-5;

} // namespace tenon::test

// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("Self-attention is the softmax of scaled products over the tokens that the mask keeps") {
  constexpr std::size_t tokens = 3;
  constexpr std::size_t width = 4;
  constexpr std::size_t heads = 2;
  using Net = Graph<Inputs<"x", "mask">, Let<"y", SelfAttention<"a", 4, 2>, "x", "mask">, Outputs<"y">>;
  OneLayer<Net> layer;
  const Tensor x = wave({1, tokens, width});
  const Tensor mask({1, tokens}, {1, 0, 1});
  const Tensor y = layer.session(x, mask);

  const auto project = [&](std::size_t weight) {
    const std::vector<double> w = layer.weight(weight);
    const std::vector<double> b = layer.weight(weight + 1);
    std::vector<double> out(tokens * width);
    for (std::size_t t = 0; t < tokens; ++t)
      for (std::size_t o = 0; o < width; ++o) {
        out[t * width + o] = b[o];
        for (std::size_t i = 0; i < width; ++i)
          out[t * width + o] += static_cast<double>(x.values()[t * width + i]) * w[o * width + i];
      }
    return out;
  };
  const std::vector<double> q = project(0);
  const std::vector<double> k = project(2);
  const std::vector<double> v = project(4);
  constexpr std::size_t head_width = width / heads;
  for (std::size_t h = 0; h < heads; ++h)
    for (std::size_t t = 0; t < tokens; ++t) {
      std::vector<double> weight(tokens);
      double sum = 0;
      for (std::size_t s = 0; s < tokens; ++s) {
        double score = 0;
        for (std::size_t d = 0; d < head_width; ++d)
          score += q[t * width + h * head_width + d] * k[s * width + h * head_width + d];
        weight[s] = s == 1 ? 0 : std::exp(score / std::sqrt(2.0));
        sum += weight[s];
      }
      for (std::size_t d = 0; d < head_width; ++d) {
        double expected = 0;
        for (std::size_t s = 0; s < tokens; ++s)
          expected += weight[s] / sum * v[s * width + h * head_width + d];
        CHECK(std::abs(static_cast<double>(y.values()[t * width + h * head_width + d]) - expected) <
              few_ulps);
      }
    }
}

TEST_CASE("Without a mask every token is read") {
  OneLayer<Sequential<SelfAttention<"a", 4, 2>>> layer;
  using Masked = Graph<Inputs<"x", "mask">, Let<"y", SelfAttention<"a", 4, 2>, "x", "mask">, Outputs<"y">>;
  const auto model = open<Masked>(layer.folder.file("m.safetensors"));
  Session masked(model);
  const Tensor x = wave({2, 3, 4});
  CHECK(layer.session(x) == masked(x, Tensor({2, 3}, {1, 1, 1, 1, 1, 1})));
}

TEST_CASE("Scratch grows with tokens and not with their square") {
  OneLayer<Sequential<SelfAttention<"a", 4, 2>>> layer;
  Session few(layer.model, {.tokens = 1024});
  Session many(layer.model, {.tokens = 8192});
  CHECK(many.scratch_bytes() <= 8 * few.scratch_bytes());
  CHECK(many.activation_bytes() == 8 * few.activation_bytes());
}

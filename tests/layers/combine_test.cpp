// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("Add sums its wires and Softmax gives rows that sum to one") {
  using Net = Graph<Inputs<"x">, Let<"h", Linear<"fc", 3, 3>, "x">, Let<"sum", Add, "h", "x">,
                    Let<"p", Softmax, "sum">, Outputs<"p", "h", "sum">>;
  OneLayer<Net> layer;
  const Tensor x = wave({2, 3});
  const auto [p, h, sum] = layer.session(x);
  for (std::size_t i = 0; i < 6; ++i) CHECK(sum.values()[i] == h.values()[i] + x.values()[i]);
  for (std::int64_t r = 0; r < 2; ++r) {
    double total = 0;
    for (const float v : sum.row(r)) total += std::exp(static_cast<double>(v));
    for (std::size_t i = 0; i < 3; ++i)
      CHECK(static_cast<double>(p.row(r)[i]) ==
            doctest::Approx(std::exp(static_cast<double>(sum.row(r)[i])) / total).epsilon(few_ulps));
  }
}

TEST_CASE("Multiply gates its first wire by its second") {
  using Net = Graph<Inputs<"x">, Let<"a", Linear<"one", 3, 37>, "x">, Let<"b", Linear<"two", 3, 37>, "x">,
                    Let<"y", Multiply, "a", "b">, Let<"square", Multiply, "y", "y">,
                    Outputs<"y", "a", "b", "square">>;
  OneLayer<Net> layer;
  const auto [y, a, b, square] = layer.session(wave({2, 2, 3}));
  for (std::size_t i = 0; i < y.values().size(); ++i) {
    CHECK(y.values()[i] == a.values()[i] * b.values()[i]);
    CHECK(square.values()[i] == y.values()[i] * y.values()[i]);
  }
}

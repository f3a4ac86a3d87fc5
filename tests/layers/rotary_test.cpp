// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

/// A linear and its output turned, both given back.
template <class Turn>
using Net = Graph<Inputs<"x">, Let<"h", Linear<"fc", 5, 12>, "x">, Let<"y", Turn, "h">, Outputs<"y", "h">>;

/// Heads of six: pairs (i, i + 3) turned by place * frequency(i).
template <class Turn>
void check_turned(double (*frequency)(double pair)) {
  OneLayer<Net<Turn>> layer;
  constexpr std::size_t tokens = 4;
  const auto [y, h] = layer.session(wave({2, tokens, 5}));
  for (std::size_t row = 0; row < 2 * tokens; ++row)
    for (std::size_t head = 0; head < 12; head += 6)
      for (std::size_t i = 0; i < 3; ++i) {
        const double angle = static_cast<double>(row % tokens) * frequency(static_cast<double>(i));
        const auto a = static_cast<double>(h.values()[row * 12 + head + i]);
        const auto b = static_cast<double>(h.values()[row * 12 + head + i + 3]);
        const double first = a * std::cos(angle) - b * std::sin(angle);
        const double second = a * std::sin(angle) + b * std::cos(angle);
        CHECK(std::abs(static_cast<double>(y.values()[row * 12 + head + i]) - first) < few_ulps);
        CHECK(std::abs(static_cast<double>(y.values()[row * 12 + head + i + 3]) - second) < few_ulps);
      }
}

} // namespace

TEST_CASE("Rotary turns the two halves of each head by the token's place in its sequence") {
  check_turned<Rotary<12, 6>>([](double pair) { return std::pow(10000.0, -pair / 3); });
  check_turned<Rotary<12, 6, Turns{.theta = 7}>>([](double pair) { return std::pow(7.0, -pair / 3); });
}

TEST_CASE("Rotary has the numbers of a rope_scaling of type llama3") {
  // Of theta 1000 the waves are 6.3, 62.8 and 628 tokens long. 100 original positions make 16, 1.6 and 0.16 of them.
  check_turned<Rotary<
      12, 6,
      Turns{.theta = 1000, .factor = 5, .low_factor = 1, .high_factor = 3, .original_positions = 100}>>(
      [](double pair) {
        if (pair == 0) return 1.0;
        if (pair == 2) return 0.01 / 5;
        const double share = (100 * 0.1 / (2 * 3.14159265358979) - 1) / 2;
        return 0.1 * (share + (1 - share) / 5);
      });
}

TEST_CASE("Rotary writes over its input where that ends") {
  using Turned = Sequential<Linear<"fc", 5, 12>, Rotary<12, 6>>;
  static_assert(activation_bytes<Turned>({.tokens = 64}) ==
                activation_bytes<Linear<"fc", 5, 12>>({.tokens = 64}));
  OneLayer<Turned> layer;
  const auto both = open<Net<Rotary<12, 6>>>(layer.folder.file("m.safetensors"));
  const Tensor x = wave({2, 3, 5});
  const auto [y, h] = Session(both)(x);
  CHECK(layer.session(x) == y);
}

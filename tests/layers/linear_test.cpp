// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

void check_linear(const Tensor& x, const Tensor& y, const std::vector<double>& w,
                  const std::vector<double>& b) {
  const std::size_t in = 5;
  const std::size_t out = 3;
  for (std::size_t row = 0; row < x.values().size() / in; ++row)
    for (std::size_t o = 0; o < out; ++o) {
      double sum = b.empty() ? 0 : b[o];
      for (std::size_t i = 0; i < in; ++i)
        sum += static_cast<double>(x.values()[row * in + i]) * w[o * in + i];
      CHECK(static_cast<double>(y.values()[row * out + o]) == doctest::Approx(sum).epsilon(few_ulps));
    }
}

} // namespace

TEST_CASE("Linear is x times W transposed plus b for each storage type") {
  for (const DType dtype : {f32, f16, bf16}) {
    OneLayer<Linear<"fc", 5, 3>> layer(dtype);
    const Tensor x = wave({2, 4, 5});
    check_linear(x, layer.session(x), layer.weight(0), layer.weight(1));
  }
}

TEST_CASE("Linear without bias names no bias") {
  using Net = Linear<"fc", 5, 3, NoBias>;
  static_assert(weight_count<Net> == 1);
  OneLayer<Net> layer;
  const Tensor x = wave({3, 5});
  check_linear(x, layer.session(x), layer.weight(0), {});
}

TEST_CASE("Options come in any order and a closed slot is no slot") {
  static_assert(slot_count<Linear<"fc", 5, 3>> == 1);
  static_assert(slot_count<Linear<"fc", 5, 3, NoBias, NoSlot>> == 0);
  static_assert(slot_count<Linear<"fc", 5, 3, NoSlot, NoBias>> == 0);
  static_assert(slot_count<Linear<"fc", 5, 3, Slot<LoraOfRank<4>>, NoBias>> == 1);
  static_assert(program_of<Linear<"fc", 5, 3, NoSlot>>().steps[0].run == &linear_step<false>);
  static_assert(program_of<Linear<"fc", 5, 3>>().steps[0].run == &linear_step<true>);
}

TEST_CASE("A bias if a number of the architecture says so") {
  static_assert(weight_count<Linear<"fc", 5, 3, BiasIf<true>>> == 2);
  static_assert(weight_count<Linear<"fc", 5, 3, BiasIf<false>>> == 1);
  static_assert(weight_count<Linear<"fc", 5, 3, NoSlot, BiasIf<false>>> == 1);
  OneLayer<Linear<"fc", 5, 3, BiasIf<true>>> with;
  OneLayer<Linear<"fc", 5, 3, BiasIf<false>>> without;
  const Tensor x = wave({3, 5});
  check_linear(x, with.session(x), with.weight(0), with.weight(1));
  check_linear(x, without.session(x), without.weight(0), {});
}

TEST_CASE("A head may be tied to an embedding, whose table the checkpoint has once") {
  using Net = Scope<"model", Graph<Inputs<"ids">, Let<"h", Embedding<"words", 9, 4>, "ids">,
                                   Let<"y", TiedLinear<"model.words.weight", 4, 9>, "h">, Outputs<"y", "h">>>;
  static_assert(weight_count<Net> == 1 && slot_count<Net> == 0);
  static_assert(parameter_count<Net> == 36);
  static_assert(output_shape<Net> == Shape::of({batch_dim, tokens_dim, fixed(9)}));
  for (const DType dtype : {f32, f16, bf16}) {
    OneLayer<Net> layer(dtype);
    const std::vector<std::int32_t> ids{8, 0, 3, 3, 1, 2};
    const auto [y, h] = layer.session(view(ids, {2, 3}));
    const std::vector<double> w = layer.weight(0);
    for (std::size_t row = 0; row < 6; ++row)
      for (std::size_t o = 0; o < 9; ++o) {
        double sum = 0;
        for (std::size_t i = 0; i < 4; ++i)
          sum += w[static_cast<std::size_t>(ids[row]) * 4 + i] * w[o * 4 + i];
        CHECK(std::abs(static_cast<double>(y.values()[row * 9 + o]) - sum) < few_ulps);
      }
  }
}

TEST_CASE("A weight from outside may be tied in each round of a loop") {
  using Net = Sequential<Linear<"fc", 4, 4, NoBias>, Repeat<"layer", 3, TiedLinear<"fc.weight", 4, 4>>>;
  static_assert(weight_count<Net> == 1);
  OneLayer<Net> layer;
  const auto model = open<Linear<"fc", 4, 4, NoBias>>(layer.folder.file("m.safetensors"));
  Session one(model);
  const Tensor x = wave({3, 4});
  Tensor expected = x;
  for (int i = 0; i < 4; ++i) expected = one(expected);
  CHECK(layer.session(x) == expected);
}

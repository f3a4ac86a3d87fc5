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

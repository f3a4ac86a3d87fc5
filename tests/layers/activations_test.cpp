// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

/// The activation behind a linear, and the linear alone, from the same file.
template <class Activation>
void check_activation(double (*expected)(double)) {
  using Fc = Linear<"fc", 4, 4>;
  OneLayer<Sequential<Fc, Activation>> layer;
  const auto before = open<Fc>(layer.folder.file("m.safetensors"));
  const Tensor x = wave({5, 4});
  const Tensor y = layer.session(x);
  const Tensor in = Session(before)(x);
  for (std::size_t i = 0; i < y.values().size(); ++i)
    CHECK(std::abs(static_cast<double>(y.values()[i]) - expected(static_cast<double>(in.values()[i]))) <
          few_ulps);
}

} // namespace

TEST_CASE("Activations are torch's functions of their names") {
  check_activation<Gelu>([](double v) { return v * 0.5 * (1 + std::erf(v / std::sqrt(2.0))); });
  check_activation<GeluTanh>([](double v) {
    return 0.5 * v * (1 + std::tanh(std::sqrt(2 / 3.14159265358979) * (v + 0.044715 * v * v * v)));
  });
  check_activation<QuickGelu>([](double v) { return v / (1 + std::exp(-1.702 * v)); });
  check_activation<Relu>([](double v) { return v > 0 ? v : 0.0; });
  check_activation<Silu>([](double v) { return v / (1 + std::exp(-v)); });
  check_activation<Tanh>([](double v) { return std::tanh(v); });
}

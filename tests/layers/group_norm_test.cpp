// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

/// x [batch, positions, channels] as torch.nn.GroupNorm computes it, in double.
std::vector<double> normalized(const Tensor& x, std::size_t batch, std::size_t channels, std::size_t groups,
                               double eps, const std::vector<double>& weight,
                               const std::vector<double>& bias) {
  const std::size_t positions = x.values().size() / batch / channels;
  const std::size_t size = channels / groups;
  std::vector<double> y(x.values().size());
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t g = 0; g < groups; ++g) {
      const auto each = [&](auto f) {
        for (std::size_t i = 0; i < positions; ++i)
          for (std::size_t c = g * size; c < (g + 1) * size; ++c) f((b * positions + i) * channels + c, c);
      };
      double mean = 0;
      double variance = 0;
      const auto n = static_cast<double>(positions * size);
      each([&](std::size_t i, std::size_t) { mean += static_cast<double>(x.values()[i]) / n; });
      each([&](std::size_t i, std::size_t) {
        const double d = static_cast<double>(x.values()[i]) - mean;
        variance += d * d / n;
      });
      each([&](std::size_t i, std::size_t c) {
        y[i] = (static_cast<double>(x.values()[i]) - mean) / std::sqrt(variance + eps) * weight[c] + bias[c];
      });
    }
  return y;
}

} // namespace

TEST_CASE("GroupNorm normalises the positions and channels of each group for each image") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    OneLayer<GroupNorm<"norm", 4, 12, Epsilon{1e-3f}>> layer(dtype);
    const Tensor x = wave({3, 5, 4, 12});
    const Tensor y = layer.session(x);
    const std::vector<double> expected = normalized(x, 3, 12, 4, 1e-3, layer.weight(0), layer.weight(1));
    for (std::size_t i = 0; i < expected.size(); ++i)
      CHECK(static_cast<double>(y.values()[i]) == doctest::Approx(expected[i]).epsilon(few_ulps).scale(1));
  }
}

TEST_CASE("GroupNorm takes tokens and videos as well") {
  static_assert(output_shape<GroupNorm<"norm", 2, 8, Epsilon{}, 1>> ==
                Shape::of({batch_dim, tokens_dim, fixed(8)}));
  OneLayer<GroupNorm<"norm", 2, 8, Epsilon{}, 3>> layer;
  const Tensor x = wave({2, 3, 2, 2, 8});
  const Tensor y = layer.session(x);
  const std::vector<double> expected = normalized(x, 2, 8, 2, 1e-5, layer.weight(0), layer.weight(1));
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(static_cast<double>(y.values()[i]) == doctest::Approx(expected[i]).epsilon(few_ulps).scale(1));
}

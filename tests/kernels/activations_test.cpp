// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/activations.hpp>

#include <support/allocation_probe.hpp>
#include <support/naive.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <span>
#include <string_view>
#include <vector>

using namespace tenon::test;
namespace kernels = tenon::kernels;

namespace {

using Kernel = void (*)(std::span<const float>, std::span<float>);

struct Activation {
  std::string_view name;
  Kernel kernel;
  double (*exact)(double);
  double tolerance; ///< relative, where |x| <= 5; exp_lanes and tanh_lanes are good to 2 or
                    ///< 3 ulp
};

const Activation activations[] = {
    {"relu", &kernels::relu, [](double x) { return x > 0 ? x : 0.0; }, 0.0},
    {"silu", &kernels::silu, [](double x) { return x / (1 + std::exp(-x)); }, 4e-7},
    {"tanh", &kernels::tanh, [](double x) { return std::tanh(x); }, 4e-7},
    {"gelu", &kernels::gelu, [](double x) { return 0.5 * x * std::erfc(-x / std::numbers::sqrt2); }, 4e-7},
    // 1.702 x is rounded to float before it is an exponent of up to 8.5
    {"quick_gelu", &kernels::quick_gelu, [](double x) { return x / (1 + std::exp(-1.702 * x)); }, 1e-6},
    // the cubic is rounded to float before it is an exponent of up to 17
    {"gelu_tanh", &kernels::gelu_tanh,
     [](double x) {
       const double u = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
       return x / (1 + std::exp(-2 * u)); // = x (1 + tanh u) / 2 without the cancellation
     },
     3e-6},
};

/// Every 1/256 between -5 and 5, and magnitudes down to 1e-30.
std::vector<float> arguments() {
  std::vector<float> x;
  for (int i = -5 * 256; i <= 5 * 256; ++i) x.push_back(static_cast<float>(i) / 256);
  for (float size = 1.0f; size > 1e-30f; size /= 3.0f) {
    x.push_back(size);
    x.push_back(-size);
  }
  return x;
}

} // namespace

TEST_CASE("Activations agree with float64 to a few units in the last place") {
  const std::vector<float> x = arguments();
  std::vector<float> y(x.size());
  for (const Activation& f : activations) {
    f.kernel(x, y);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exact = f.exact(static_cast<double>(x[i]));
      const double error = std::abs(static_cast<double>(y[i]) - exact);
      if (!(error <= worst * std::abs(exact))) worst = error / std::abs(exact);
    }
    INFO(f.name);
    CHECK(worst <= f.tolerance);
  }
}

TEST_CASE("Activations settle at their limits and pass a NaN on") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x{30.0f, 3e38f, infinity, -30.0f, -3e38f, std::numeric_limits<float>::quiet_NaN()};
  std::vector<float> y(x.size());
  for (const Activation& f : activations) {
    INFO(f.name);
    f.kernel(x, y);
    const bool is_tanh = f.kernel == static_cast<Kernel>(&kernels::tanh);
    for (std::size_t i = 0; i < 3; ++i) CHECK(y[i] == (is_tanh ? 1.0f : x[i]));
    for (std::size_t i = 3; i < 5; ++i) CHECK(std::abs(y[i] - (is_tanh ? -1.0f : 0.0f)) < 1e-11f);
    CHECK(std::isnan(y[5]));
  }
}

TEST_CASE("An activation is the same in place and at any address and at any position") {
  for (const Activation& f : activations)
    for (const std::int64_t size : {1, 63, 64, 65, 200}) {
      FloatMatrix x(1, size, 1);
      FloatMatrix y(1, size, 2);
      FloatMatrix shifted(1, size, 1, {.shift = 12});
      float alone = 0;
      const AllocationProbe probe;
      f.kernel(x.view.row_span(0), y.view.row_span(0));
      f.kernel(shifted.view.row_span(0), shifted.view.row_span(0));
      f.kernel(x.view.row_span(0).last(1), {&alone, 1});
      const auto taken = probe.count();
      INFO(f.name, " ", size);
      CHECK(taken == 0);
      CHECK(same_bits(y.view, shifted.view));
      CHECK(alone == y.view.data[size - 1]);
    }
}

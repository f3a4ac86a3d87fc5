// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "support/step_case.hpp"

#include <tenon/layers/activations.hpp>
#include <tenon/layers/combine.hpp>

using namespace tenon;
using namespace tenon::test;

namespace {

struct Pair {
  std::string_view op;
  StepFunction host;
};

/// Of each number alone: a device's activation has a small relative error in the tail as well.
double worst_ratio(std::span<const float> got, std::span<const float> expected) {
  double worst = got.size() == expected.size() ? 0 : 1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double ratio = static_cast<double>(got[i]) / static_cast<double>(expected[i]);
    if (std::isnan(got[i])) return std::numeric_limits<double>::infinity();
    if (got[i] != expected[i]) worst = std::max(worst, std::abs(ratio - 1));
  }
  return worst;
}

} // namespace

TEST_CASE("Activations on a device are the host's, number by number, and may write over their input") {
  const Pair activations[] = {{"Gelu", &elementwise_step<&kernels::gelu>},
                              {"GeluTanh", &elementwise_step<&kernels::gelu_tanh>},
                              {"QuickGelu", &elementwise_step<&kernels::quick_gelu>},
                              {"Relu", &elementwise_step<&kernels::relu>},
                              {"Silu", &elementwise_step<&kernels::silu>},
                              {"Tanh", &elementwise_step<&kernels::tanh>}};
  for (const Pair& pair : activations) {
    CAPTURE(pair.op);
    StepCase one;
    one.input({2, 3, 101}, 5).output({2, 3, 101});
    const std::vector<float> expected = one.on_host(pair.host);
    CHECK(worst_ratio(one.on_device(pair.op), expected) <= device_tolerance);
    CHECK(worst_ratio(one.over(0).on_device(pair.op), expected) <= device_tolerance);
  }
}

TEST_CASE("A NaN stays a NaN and large numbers stay finite in a device's activations") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::string_view op : {"Gelu", "GeluTanh", "QuickGelu", "Relu", "Silu", "Tanh"}) {
    CAPTURE(op);
    StepCase one;
    one.input({4}, std::vector<float>{nan, 100, -100, 0}).output({4});
    const std::vector<float> y = one.on_device(op);
    CHECK(std::isnan(y[0]));
    CHECK(y[1] == (op == "Tanh" ? 1.0f : 100.0f));
    CHECK(std::abs(y[2] + (op == "Tanh" ? 1.0f : 0.0f)) < 1e-30f);
    CHECK(y[3] == 0.0f);
  }
}

TEST_CASE("Add and Multiply on a device have the host's bits, whichever input they write over") {
  const Pair pairs[] = {{"Add", &pair_step<&kernels::add>}, {"Multiply", &pair_step<&kernels::multiply>}};
  for (const Pair& pair : pairs) {
    CAPTURE(pair.op);
    StepCase two;
    two.input({3, 37}).input({3, 37}).output({3, 37});
    const std::vector<float> expected = two.on_host(pair.host);
    CHECK(two.on_device(pair.op) == expected);
    CHECK(two.over(0).on_device(pair.op) == expected);
    CHECK(two.over(1).on_device(pair.op) == expected);
  }
}

TEST_CASE("Geglu on a device is the first half times the gelu of the second") {
  for (const std::int64_t d : {1, 33}) {
    StepCase one;
    one.input({2, 3, 2 * d}, 5).output({2, 3, d});
    CHECK(worst_ratio(one.on_device("Geglu"), one.on_host(&geglu_step)) <= device_tolerance);
  }
}

TEST_CASE("Copy and Flatten on a device move bytes, or nothing where the wires are one") {
  for (const std::string_view op : {"Copy", "Flatten"}) {
    StepCase one;
    one.input({2, 3, 5}).output({2, 15});
    const std::span<const float> x = one.context.inputs[0].values();
    CHECK(std::ranges::equal(one.on_device(op), x));
    CHECK(std::ranges::equal(one.over(0).on_device(op), x));
  }
}

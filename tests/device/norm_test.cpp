// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "support/step_case.hpp"

#include <tenon/layers/combine.hpp>
#include <tenon/layers/group_norm.hpp>
#include <tenon/layers/norm.hpp>

using namespace tenon;
using namespace tenon::test;

namespace {

constexpr std::int64_t widths[] = {1, 31, 64, 257};

} // namespace

TEST_CASE(
    "LayerNorm and AddNorm on a device are the host's with weights of any stored type, in place as well") {
  for (const DType dtype : weight_dtypes)
    for (const std::int64_t d : widths)
      for (const std::size_t inputs : {1u, 2u}) {
        CAPTURE(d);
        StepCase one;
        for (std::size_t i = 0; i < inputs; ++i) one.input({2, 3, d});
        one.weight(dtype, {d}).weight(dtype, {d}).output({2, 3, d});
        one.context.params.reals[0] = 1e-5f;
        const std::vector<float> expected = one.on_host(inputs == 1 ? &layer_norm_step : &add_norm_step);
        const std::string_view op = inputs == 1 ? "LayerNorm" : "AddNorm";
        CHECK(difference(one.on_device(op), expected) <= device_tolerance);
        for (std::size_t i = 0; i < inputs; ++i)
          CHECK(difference(one.over(i).on_device(op), expected) <= device_tolerance);
      }
}

TEST_CASE("LayerNorm on a device may have weight and bias of two types, and loses nothing of a large mean") {
  StepCase one;
  one.weight(DType::bf16, {67}).weight(DType::f32, {67}).output({3, 67});
  std::vector<float> x;
  for (int i = 0; i < 3 * 67; ++i) x.push_back(10000.0f + static_cast<float>(i % 7) / 1024.0f);
  one.input({3, 67}, x);
  one.context.params.reals[0] = 1e-12f;
  CHECK(difference(one.on_device("LayerNorm"), one.on_host(&layer_norm_step)) <= device_tolerance);
}

TEST_CASE("A device's norm computes with what its slot has in the weight's place") {
  StepCase one;
  one.input({5, 13}).weight(DType::f32, {13}).weight(DType::f32, {13}).output({5, 13});
  one.context.params.reals[0] = 1e-5f;
  ActiveSlot slot{
      .weight = one.stored(DType::f32, {13}), .base = one.context.weights[0], .is_pristine = false};
  const std::vector<float> pristine = one.on_device("LayerNorm");
  one.context.slot = &slot;
  const std::vector<float> expected = one.on_host(&layer_norm_step);
  CHECK(difference(one.on_device("LayerNorm"), expected) <= device_tolerance);
  CHECK(difference(pristine, expected) > 0.1);
}

TEST_CASE("A device's norm adds its bias with the changes that are attached to it") {
  for (const DType dtype : weight_dtypes)
    for (const std::string_view op : {"LayerNorm", "AddNorm", "GroupNorm"}) {
      CAPTURE(std::string(op));
      StepCase one;
      one.input({2, 5, 31}).weight(dtype, {31}).weight(dtype, {31}).output({2, 5, 31});
      if (op == "AddNorm") one.input({2, 5, 31});
      one.context.params = {.integers = {1}, .reals = {1e-5f}};
      one.context.has_deltas = true;
      ActiveSlot slot{.weight = one.stored(dtype, {31}), .base = one.context.weights[0]};
      SideBias added{.term = {.values = weight_vector(one.stored(dtype, {31})), .scale = 0.5f}};
      SideBias grown{.term = {.values = weight_vector(one.stored(DType::f32, {7})),
                              .scale = -2.0f,
                              .action = kernels::BiasAction::grow_by,
                              .first = 20}};
      slot.biases.add(added);
      slot.biases.add(grown);
      one.context.slot = &slot;
      const std::vector<float> expected = one.on_host(op == "LayerNorm" ? &layer_norm_step
                                                      : op == "AddNorm" ? &add_norm_step
                                                                        : &group_norm_step);
      CHECK(difference(one.on_device(op), expected) <= device_tolerance);
      CHECK(difference(one.over(0).on_device(op), expected) <= device_tolerance);
    }
}

TEST_CASE("A device's norm refuses what it does not compute beside its weight") {
  const auto check = [](std::string_view op, auto add) {
    StepCase one;
    one.input({5, 13}).weight(DType::f32, {13}).weight(DType::f32, {13}).output({5, 13});
    one.context.params.integers[0] = 13;
    ActiveSlot slot{.weight = one.context.weights[0], .base = one.context.weights[0]};
    add(slot);
    one.context.slot = &slot;
    CHECK_THROWS_WITH_AS((void)one.on_device(op),
                         "on a device: this layer's step computes nothing beside its weight but LoRA of an "
                         "embedding and a norm's bias; attach merged",
                         error);
  };
  SideBias bias{};
  SideTerm term{};
  check("RmsNorm", [&](ActiveSlot& slot) { slot.biases.add(bias); });
  check("LayerNorm", [&](ActiveSlot& slot) { slot.terms.add(term); });
}

TEST_CASE("RmsNorm on a device is the host's, of rows and of their heads") {
  for (const DType dtype : weight_dtypes)
    for (const std::int64_t d : widths)
      for (const std::int64_t heads : {1, 3}) {
        CAPTURE(d);
        StepCase one;
        one.input({2, 3, heads * d}).weight(dtype, {d}).output({2, 3, heads * d});
        const TensorView own[] = {one.context.weights[0], {}};
        one.context.weights = own;
        one.context.params = {.integers = {d}, .reals = {1e-6f}};
        const std::vector<float> expected = one.on_host(&rms_norm_step);
        const std::string_view op = heads == 1 ? "RmsNorm" : "HeadRmsNorm";
        CHECK(difference(one.on_device(op), expected) <= device_tolerance);
        CHECK(difference(one.over(0).on_device(op), expected) <= device_tolerance);
      }
}

TEST_CASE("L2Normalize and Softmax on a device are the host's") {
  for (const std::int64_t d : widths) {
    StepCase one;
    one.input({7, d}, 8).output({7, d});
    for (const bool in_place : {false, true}) {
      if (in_place) one.over(0);
      CHECK(difference(one.on_device("L2Normalize"), one.on_host(&l2_normalize_step)) <= device_tolerance);
      CHECK(difference(one.on_device("Softmax"), one.on_host(&softmax_step)) <= device_tolerance);
    }
  }
}

TEST_CASE("A device normalises zeros to zeros, and a row of masked scores to equal parts") {
  constexpr float lowest = std::numeric_limits<float>::lowest();
  StepCase zeros;
  zeros.input({2, 5}, std::vector<float>(10)).output({2, 5});
  CHECK(zeros.on_device("L2Normalize") == std::vector<float>(10));
  StepCase masked;
  masked.input({2, 4}, std::vector<float>{lowest, lowest, lowest, lowest, lowest, 0, lowest, 0})
      .output({2, 4});
  CHECK(masked.on_device("Softmax") == std::vector<float>{0.25f, 0.25f, 0.25f, 0.25f, 0, 0.5f, 0, 0.5f});
}

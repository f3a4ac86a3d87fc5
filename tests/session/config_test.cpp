// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

#include <doctest/doctest.h>

#include <type_traits>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("A configuration accumulates in f32 unless it says otherwise") {
  static_assert(Config{}.accumulate == f32);
  static_assert(std::is_same_v<Model<Mlp, Config{.accumulate = f32}>, Model<Mlp>>);
  static_assert(Model<Mlp, Config{.weights = bf16, .accumulate = f32}>::config.accumulate == f32);
}

TEST_CASE("Products of weights of any type may be accumulated in f32") {
  static_assert(element_type_fault({}) == ConfigFault::none);
  for (const DType weights : {f32, f16, bf16})
    CHECK(element_type_fault({.weights = weights, .accumulate = f32}) == ConfigFault::none);
}

TEST_CASE("Of a configuration's element types only the first fault is named") {
  static_assert(element_type_fault({.weights = i32}) == ConfigFault::weights);
  static_assert(element_type_fault({.weights = i32, .accumulate = bf16}) == ConfigFault::weights);
  static_assert(element_type_fault({.weights = f32, .accumulate = f16}) == ConfigFault::narrower_accumulate);
  static_assert(element_type_fault({.weights = bf16, .accumulate = DType::f8_e4m3}) ==
                ConfigFault::narrower_accumulate);
  static_assert(element_type_fault({.weights = bf16, .accumulate = bf16}) == ConfigFault::accumulate);
  static_assert(element_type_fault({.weights = f32, .accumulate = DType::f64}) == ConfigFault::accumulate);
  static_assert(element_type_fault({.accumulate = f16}) == ConfigFault::accumulate);
  static_assert(element_type_fault({.accumulate = i32}) == ConfigFault::accumulate);
}

TEST_CASE("A model opened with accumulate = f32 computes what one without it does") {
  Fixture<Mlp> f;
  static constexpr Config in_f32{.weights = f32, .accumulate = f32};
  const auto model = open<Mlp, in_f32>(f.folder.file("model.safetensors"), {.ledger = &f.ledger});
  Session session(model);
  Session other(f.model);
  const Tensor x = ramp({3, 6});
  CHECK(session(x) == other(x));
}

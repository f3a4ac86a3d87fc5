// SPDX-License-Identifier: Apache-2.0
#include <tenon/core/error.hpp>

#include <doctest/doctest.h>

#include <type_traits>

namespace {

using tenon::error;
using tenon::ErrorCode;

TEST_CASE("An error carries its sentence its code and its place") {
  const error e(ErrorCode::wrong_shape, "layers.0.q_proj: expected [8, 8]",
                {.file = "a.safetensors", .key = "q.lora_A.weight", .layer = "layers.0.q_proj"});
  CHECK(std::string_view(e.what()) == "layers.0.q_proj: expected [8, 8]");
  CHECK(e.code() == ErrorCode::wrong_shape);
  CHECK(e.place().file == "a.safetensors");
  CHECK(e.place().key == "q.lora_A.weight");
  CHECK(e.place().layer == "layers.0.q_proj");
}

TEST_CASE("A place that is not known is empty") {
  const tenon::load_error e(ErrorCode::bad_file, "x", {.file = "a.safetensors"});
  CHECK(e.place().file == "a.safetensors");
  CHECK(e.place().key.empty());
  CHECK(e.place().layer.empty());
  CHECK(error(ErrorCode::io, "x").place().file.empty());
}

TEST_CASE("Everything Tenon throws is caught as its root and as a runtime error") {
  static_assert(std::is_base_of_v<std::runtime_error, error>);
  CHECK_THROWS_AS(throw tenon::load_error(ErrorCode::io, "x"), error);
  CHECK_THROWS_AS(throw tenon::shape_error(ErrorCode::wrong_shape, "x"), error);
  CHECK_THROWS_AS(throw tenon::budget_error(ErrorCode::budget_exceeded, "x"), error);
  CHECK_THROWS_WITH_AS(throw error(ErrorCode::wrong_state, "stale view"), "stale view", std::runtime_error);
}

} // namespace

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/embedding.hpp>

#include <support/allocation_probe.hpp>
#include <support/naive.hpp>

#include <array>
#include <cstdint>
#include <limits>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

TEST_CASE("An embedding is the rows of the table as floats") {
  const std::array<std::int32_t, 5> ids{6, 0, 3, 3, 1};
  for (const DType type : weight_dtypes) {
    const StoredMatrix table(7, 67, type, 1, {.shift = 1, .padding = 2});
    FloatMatrix y(5, 67, 2, {.padding = 1});
    const AllocationProbe probe;
    embedding(ids, table.view, y.view);
    const auto taken = probe.count();
    CHECK(taken == 0);
    bool exact = y.padding_untouched();
    for (std::int64_t i = 0; i < 5; ++i)
      for (std::int64_t j = 0; j < 67; ++j)
        exact = exact && y(i, j) == table(ids[static_cast<std::size_t>(i)], j);
    CHECK(exact);
  }
}

TEST_CASE("An id outside the table is refused before anything is written") {
  const StoredMatrix table(7, 3, DType::f32, 1);
  FloatMatrix y(3, 3, 2);
  const auto look_up = [&](std::int32_t last) { embedding(std::array{0, 6, last}, table.view, y.view); };
  CHECK_THROWS_WITH_AS(look_up(7), "embedding: id 7 at position 2 is outside the table of 7 rows", error);
  CHECK_THROWS_WITH_AS(look_up(-1), "embedding: id -1 at position 2 is outside the table of 7 rows", error);
  CHECK_THROWS_AS(look_up(std::numeric_limits<std::int32_t>::max()), error);
  try {
    look_up(7);
  } catch (const error& refused) {
    CHECK(refused.code() == ErrorCode::bad_argument);
  }
  CHECK(same_bits(y.view, FloatMatrix(3, 3, 2).view));
}

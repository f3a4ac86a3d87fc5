// SPDX-License-Identifier: Apache-2.0
#include <tenon/core/units.hpp>

#include <doctest/doctest.h>

#include <type_traits>

namespace {

TEST_CASE("Units are binary and wide enough for any machine") {
  static_assert(std::is_same_v<decltype(512 * tenon::MiB), std::int64_t>);
  CHECK(tenon::KiB == 1 << 10);
  CHECK(tenon::MiB == 1 << 20);
  CHECK(tenon::GiB == 1 << 30);
  CHECK(4096 * tenon::GiB == std::int64_t{1} << 42);
}

} // namespace

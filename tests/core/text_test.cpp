// SPDX-License-Identifier: Apache-2.0
#include <tenon/core/text.hpp>

#include <doctest/doctest.h>

#include <limits>

namespace {

using tenon::bytes_text;
using tenon::concat;

TEST_CASE("Parts are joined in order and integers written in decimal") {
  const std::string name = "q_proj";
  CHECK(concat("layers.", 3, ".", name, ": [", std::int64_t{-8}, ", ", std::size_t{4096}, "]") ==
        "layers.3.q_proj: [-8, 4096]");
  CHECK(concat(std::uint8_t{255}, " ", std::int8_t{-128}) == "255 -128");
  CHECK(concat(std::numeric_limits<std::uint64_t>::max()) == "18446744073709551615");
  CHECK(concat().empty());
}

TEST_CASE("Byte counts have one decimal and are rounded down") {
  CHECK(bytes_text(0) == "0 B");
  CHECK(bytes_text(1023) == "1023 B");
  CHECK(bytes_text(1024) == "1.0 KiB");
  CHECK(bytes_text(1536) == "1.5 KiB");
  CHECK(bytes_text(2047) == "1.9 KiB");
  CHECK(bytes_text(1024 * 1024 - 1) == "1023.9 KiB");
  CHECK(bytes_text(350 * 1024 * 1024) == "350.0 MiB");
  CHECK(bytes_text(std::int64_t{60} << 30) == "60.0 GiB");
  CHECK(bytes_text(std::int64_t{3} << 40) == "3.0 TiB");
}

TEST_CASE("Negative byte counts mirror positive ones") {
  CHECK(bytes_text(-1) == "-1 B");
  CHECK(bytes_text(-1536) == "-1.5 KiB");
  CHECK(bytes_text(-350 * 1024 * 1024) == "-350.0 MiB");
}

TEST_CASE("The largest and smallest byte counts do not overflow") { // a damaged file may state any size
  CHECK(bytes_text(std::numeric_limits<std::int64_t>::max()) == "8388607.9 TiB");
  CHECK(bytes_text(std::numeric_limits<std::int64_t>::min()) == "-8388608.0 TiB");
}

} // namespace

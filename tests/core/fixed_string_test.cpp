// SPDX-License-Identifier: Apache-2.0
#include <tenon/core/fixed_string.hpp>

#include <doctest/doctest.h>

#include <type_traits>

namespace {

using tenon::fixed_string;

template <fixed_string Name>
struct Named {
  static constexpr std::string_view name = Name.view();
};

TEST_CASE("A literal becomes a template argument and keeps its characters") {
  static_assert(Named<"attention.self">::name == "attention.self");
  static_assert(Named<"">::name.empty());
  static_assert(fixed_string("query").size() == 5);
  CHECK(Named<"query">::name == "query");
}

TEST_CASE("Equal literals name the same type and different ones do not") {
  static_assert(std::is_same_v<Named<"query">, Named<"query">>);
  static_assert(!std::is_same_v<Named<"query">, Named<"value">>);
  static_assert(!std::is_same_v<Named<"query">, Named<"query ">>);
}

TEST_CASE("Strings of different lengths compare by their characters") {
  static_assert(fixed_string("key") == fixed_string("key"));
  static_assert(fixed_string("key") != fixed_string("keys"));
  static_assert(fixed_string("") != fixed_string("k"));
  static_assert(!(fixed_string("abc") == fixed_string("abd")));
}

TEST_CASE("A byte above 127 and a null inside a literal survive") {
  static_assert(Named<"\xc3\xa9">::name.size() == 2);
  static_assert(Named<"a\0b">::name.size() == 3);
  static_assert(!std::is_same_v<Named<"a\0b">, Named<"a\0c">>);
}

} // namespace

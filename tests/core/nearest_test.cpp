// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/core/nearest.hpp>

#include <array>
#include <string>
#include <string_view>
#include <vector>

using namespace std::string_view_literals;

TEST_CASE("An edit is one byte inserted or deleted or replaced or swapped with its neighbour") {
  CHECK(tenon::edit_distance("rank", "rank", 10) == 0);
  CHECK(tenon::edit_distance("rank", "ranks", 10) == 1);
  CHECK(tenon::edit_distance("rank", "ank", 10) == 1);
  CHECK(tenon::edit_distance("rank", "tank", 10) == 1);
  CHECK(tenon::edit_distance("weigth", "weight", 10) == 1);
  CHECK(tenon::edit_distance("kitten", "sitting", 10) == 3);
  CHECK(tenon::edit_distance("", "abc", 10) == 3);
  CHECK(tenon::edit_distance("ca", "abc", 10) == 3); // no edit within a swap: optimal string alignment
}

TEST_CASE("A distance stops at its limit") {
  CHECK(tenon::edit_distance("kitten", "sitting", 3) == 3);
  CHECK(tenon::edit_distance("kitten", "sitting", 2) == 2);
  CHECK(tenon::edit_distance("a", "aaaaaaaa", 4) == 4);
}

TEST_CASE("The nearest name is the one that a typing slip came from") {
  const std::vector<std::string> names{"layers.0.query.weight", "layers.0.key.weight",
                                       "layers.1.query.weight"};
  CHECK(tenon::nearest_name("layers.0.qurey.weight", names) == "layers.0.query.weight");
  CHECK(tenon::nearest_name("layers.1.query.weigt", names) == "layers.1.query.weight");
}

TEST_CASE("Of equally near names the first is taken") {
  constexpr std::array names{"mat"sv, "bat"sv};
  CHECK(tenon::nearest_name("cat", names) == "mat");
  static_assert(tenon::nearest_name("rat", names) == "mat"); // at compile time too
}

TEST_CASE("No name is nearest when more than half of it would have to change") {
  constexpr std::array names{"lora_alpha"sv, "r"sv};
  CHECK(tenon::nearest_name("bias", names).empty());
  CHECK(tenon::nearest_name("", names).empty());
  CHECK(tenon::nearest_name("anything", std::array<std::string_view, 0>{}).empty());
}

TEST_CASE("Names beyond the compared length are compared by their ends") {
  const std::string head(tenon::nearest_length * 3, 'x');
  const std::vector<std::string> names{head + ".query.weight", head + ".value.weight"};
  CHECK(tenon::nearest_name(head + ".valeu.weight", names) == names[1]);
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/core/sort_by.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace tenon;

TEST_CASE("A list is sorted, and equal elements keep their order") {
  std::vector<std::pair<int, std::string>> list = {{2, "a"}, {1, "b"}, {2, "c"},
                                                   {0, "d"}, {1, "e"}, {2, "f"}};
  sort_by(list, [](const auto& a, const auto& b) { return a.first < b.first; });
  CHECK(list ==
        std::vector<std::pair<int, std::string>>{{0, "d"}, {1, "b"}, {1, "e"}, {2, "a"}, {2, "c"}, {2, "f"}});
}

TEST_CASE("Elements that can only be moved are sorted too, and so is an empty list") {
  std::vector<std::unique_ptr<int>> list;
  sort_by(list, [](const auto& a, const auto& b) { return *a < *b; });
  CHECK(list.empty());
  for (int i = 0; i < 100; ++i) list.push_back(std::make_unique<int>(i * 37 % 100));
  sort_by(list, [](const auto& a, const auto& b) { return *a < *b; });
  bool right = true;
  for (int i = 0; i < 100; ++i) right = right && *list[static_cast<std::size_t>(i)] == i;
  CHECK(right);
}

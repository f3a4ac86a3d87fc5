// SPDX-License-Identifier: Apache-2.0
#include <tenon/formats/pattern.hpp>

#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <vector>

using namespace tenon;

namespace {

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  std::size_t at = 0;
  for (std::size_t next; (next = text.find(separator, at)) != std::string::npos; at = next + separator.size())
    parts.push_back(text.substr(at, next - at));
  parts.push_back(text.substr(at));
  return parts;
}

} // namespace

// tests/goldens/make_peft_patterns.py asked PEFT's own get_pattern_key for every row.
TEST_CASE("The first matching key is the one that PEFT chooses") {
  std::ifstream table(TENON_TEST_DATA "/goldens/peft/patterns.tsv");
  REQUIRE(table.good());
  int rows = 0;
  int unsupported = 0;
  for (std::string line; std::getline(table, line);) {
    if (line.starts_with('#')) continue;
    const std::vector<std::string> columns = split(line, "\t");
    REQUIRE(columns.size() == 3);
    CAPTURE(line);
    if (line.find("(?!") != std::string::npos) { // look-ahead is refused by name, not misread
      CHECK_THROWS_AS((void)Pattern{columns[0]}, error);
      ++unsupported;
      continue;
    }
    std::string chosen = "-";
    for (const std::string& key : split(columns[0], " ; "))
      if (chosen == "-" && Pattern(key).matches_module(columns[1])) chosen = key;
    CHECK(chosen == columns[2]);
    ++rows;
  }
  CHECK(rows >= 100);
  CHECK(unsupported <= 4);
}

TEST_CASE("Syntax outside the supported part is refused with its place") {
  CHECK_THROWS_WITH_AS(
      Pattern("a(?=b)"),
      "pattern 'a(?=b)': a group that is not (...) or (?:...) at character 3 is not supported; write "
      "the module names in full",
      error);
  CHECK_THROWS_WITH_AS(Pattern("*x"),
                       "pattern '*x': a quantifier with nothing before it at character 1 is not "
                       "supported; write the module names in full",
                       error);
  for (const char* wrong :
       {"(a", "a)", "[a", "a{2", "a{3,1}", "a**", "\\b", "\\1", "[b-a]", "a{1000}", "((((((((((a))))))))))"})
    CHECK_THROWS_AS((void)Pattern(wrong), error);
}

TEST_CASE("A pattern made to be slow is answered at once") {
  const Pattern pattern("((a*)*)*b");
  CHECK_FALSE(pattern.matches_module(std::string(200, 'a')));
  CHECK(pattern.matches_module(std::string(200, 'a') + "b"));
}

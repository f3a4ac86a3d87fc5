// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_VOID_CAST_EXPRESSIONS // CHECK_THROWS drops what a [[nodiscard]] function would return
#include <doctest/doctest.h>

#include <tenon/core/json.hpp>

#include <string>
#include <string_view>

using tenon::JsonKind;
using tenon::JsonValue;
using tenon::load_error;
using tenon::parse_json;
using namespace std::string_literals;

namespace {

// What the reader says of a text; empty if it takes it.
std::string refusal(std::string_view text) {
  try {
    static_cast<void>(parse_json(text));
    return {};
  } catch (const load_error& e) {
    CHECK(e.code() == tenon::ErrorCode::bad_file);
    return e.what();
  }
}

std::string text_of(std::string_view json) { return parse_json(json).string("text"); }

std::string nested(int levels) {
  const auto n = static_cast<std::size_t>(levels);
  return std::string(n, '[') + std::string(n, ']');
}

} // namespace

TEST_CASE("An adapter configuration is read with its members in the order of the text") {
  const JsonValue root = parse_json(R"( {"r": 8, "lora_alpha": 16.5, "use_dora": false,
      "target_modules": ["query", "value"], "rank_pattern": {}, "bias": null} )");
  CHECK(root.at("r", "c.json").integer("c.json: r") == 8);
  CHECK(root.at("lora_alpha", "c.json").number("c.json: lora_alpha") == 16.5);
  CHECK_FALSE(root.at("use_dora", "c.json").boolean("c.json: use_dora"));
  CHECK(root.at("target_modules", "c.json").array("c.json").at(1).string("c.json") == "value");
  CHECK(root.at("rank_pattern", "c.json").object("c.json").empty());
  CHECK(root.at("bias", "c.json").is_null());
  CHECK(root.find("use_rslora") == nullptr);
  std::string keys;
  for (const tenon::JsonMember& member : root.members) keys += member.key + " ";
  CHECK(keys == "r lora_alpha use_dora target_modules rank_pattern bias ");
}

TEST_CASE("Every kind of value may be the whole text") {
  CHECK(parse_json("null").kind == JsonKind::null);
  CHECK(parse_json("true").kind == JsonKind::boolean);
  CHECK(parse_json("-0.5e+2").kind == JsonKind::number);
  CHECK(parse_json("\"\"").kind == JsonKind::string);
  CHECK(parse_json("[]").kind == JsonKind::array);
  CHECK(parse_json("\t{}\r\n").kind == JsonKind::object);
}

TEST_CASE("Escapes become the characters they stand for") {
  CHECK(text_of(R"("\"\\\/\b\f\n\r\t")") == "\"\\/\b\f\n\r\t");
  CHECK(text_of(R"("\u0041\u00e9\u20AC\ud83d\ude00")") == "A\u00e9\u20ac\U0001F600");
  CHECK(text_of(R"("\u0000")") == "\0"s);
  CHECK(text_of(R"("\uD7FF\uE000\uDBFF\uDFFF")") == "\uD7FF\uE000\U0010FFFF");
  CHECK(text_of("\"\x7F \u00e9 \U0010FFFF\"") == "\x7F \u00e9 \U0010FFFF");
}

TEST_CASE("Numbers keep their text and convert within range only") {
  CHECK(parse_json("9223372036854775807").integer("n") == INT64_MAX);
  CHECK(parse_json("-9223372036854775808").integer("n") == INT64_MIN);
  CHECK(parse_json("18446744073709551615").text == "18446744073709551615");
  CHECK(parse_json("1E3").number("n") == 1000.0);
  CHECK(parse_json("0").integer("n") == 0);
  CHECK_THROWS_WITH_AS(parse_json("9223372036854775808").integer("n"),
                       "n: expected a whole number of 64 bits, got 9223372036854775808", load_error);
  CHECK_THROWS_WITH_AS(parse_json("1.0").integer("n"), "n: expected a whole number, got 1.0", load_error);
  CHECK_THROWS_WITH_AS(parse_json("1e2").integer("n"), "n: expected a whole number, got 1e2", load_error);
  CHECK_THROWS_WITH_AS(parse_json("1e999").number("n"),
                       "n: expected a number that a double can hold, got 1e999", load_error);
}

TEST_CASE("A value of another kind than asked for is named in the error") {
  const JsonValue root = parse_json(R"([null, true, 7, "x", [1], {}])");
  const auto& item = root.items;
  CHECK_THROWS_WITH_AS(item[0].string("c.json: r"), "c.json: r: expected a string, got null", load_error);
  CHECK_THROWS_WITH_AS(item[1].integer("c.json: r"), "c.json: r: expected a whole number, got true",
                       load_error);
  CHECK_THROWS_WITH_AS(item[1].number("c.json: r"), "c.json: r: expected a number, got true", load_error);
  CHECK_THROWS_WITH_AS(item[2].boolean("c.json: r"), "c.json: r: expected true or false, got 7", load_error);
  CHECK_THROWS_WITH_AS(item[3].array("c.json: r"), "c.json: r: expected an array, got \"x\"", load_error);
  CHECK_THROWS_WITH_AS(item[4].object("c.json: r"), "c.json: r: expected an object, got an array of 1",
                       load_error);
  CHECK_THROWS_WITH_AS(item[5].string("c.json: r"), "c.json: r: expected a string, got an object",
                       load_error);
  CHECK_THROWS_WITH_AS(item[4].at("r", "c.json"), "c.json: expected an object, got an array of 1",
                       load_error);
}

TEST_CASE("A missing member is an error with a code of its own") {
  const JsonValue root = parse_json(R"({"alpha": 1})");
  CHECK_THROWS_WITH_AS(root.at("r", "c.json"), "c.json: expected a member \"r\", got none", load_error);
  try {
    static_cast<void>(root.at("r", "c.json"));
  } catch (const load_error& e) {
    CHECK(e.code() == tenon::ErrorCode::missing_key);
    CHECK(e.place().key == "r");
  }
}

TEST_CASE("A long value is measured in an error and not repeated") {
  const JsonValue text = parse_json("\"" + std::string(81, 'x') + "\"");
  const JsonValue number = parse_json(std::string(81, '7'));
  CHECK_THROWS_WITH_AS(text.array("r"), "r: expected an array, got a string of 81 bytes", load_error);
  CHECK_THROWS_WITH_AS(number.array("r"), "r: expected an array, got a number of 81 characters", load_error);
}

TEST_CASE("An error names its file and counts bytes from where the text begins in it") {
  CHECK_THROWS_WITH_AS(parse_json("[1 2]", {.file = "a.safetensors", .first_byte = 8}),
                       "a.safetensors: byte 11: expected ',' or ']', got '2'", load_error);
}

TEST_CASE("A text that ends early is refused") {
  CHECK(refusal("") == "JSON: byte 0: expected a value, got the end of the text");
  CHECK(refusal("[1,") == "JSON: byte 3: expected a value, got the end of the text");
  CHECK(refusal("[1") == "JSON: byte 2: expected ',' or ']', got the end of the text");
  CHECK(refusal("{") == "JSON: byte 1: expected a key in quotes, got the end of the text");
  CHECK(refusal("{\"a\"") == "JSON: byte 4: expected ':' after a key, got the end of the text");
  CHECK(refusal("\"a") == "JSON: byte 2: expected '\"' at the end of a string, got the end of the text");
  CHECK(refusal("\"\\") == "JSON: byte 2: expected an escape of JSON after '\\', got the end of the text");
  CHECK(refusal("-") == "JSON: byte 1: expected a digit, got the end of the text");
}

TEST_CASE("Anything after the value is refused") {
  CHECK(refusal("{} x") == "JSON: byte 3: expected the end of the text, got 'x'");
  CHECK(refusal("{}\0"s) == "JSON: byte 2: expected the end of the text, got byte 0x00");
}

TEST_CASE("A key that an object has twice is refused by its name") {
  CHECK(refusal(R"({"a":1,"b":2,"a":3})") == "JSON: byte 13: expected each key once, got \"a\" again");
  CHECK(refusal(R"({"a":1,"\u0061":3})") == "JSON: byte 7: expected each key once, got \"a\" again");
  CHECK(refusal(R"([{"a":1},{"a":1}])").empty());
}

TEST_CASE("More than 64 levels are refused before the stack feels them") {
  CHECK(refusal(nested(64)).empty());
  CHECK(refusal(nested(65)) == "JSON: byte 64: expected at most 64 levels, got '['");
  CHECK(refusal(std::string(1'000'000, '[')) == "JSON: byte 64: expected at most 64 levels, got '['");
}

TEST_CASE("Broken UTF-8 is refused") {
  CHECK(refusal("\"\xFF\"") == "JSON: byte 1: expected UTF-8, got byte 0xFF");
  for (const std::string_view bytes :
       {"\x80", "\xC0\xAF", "\xC1\xBF", "\xC3", "\xE0\x80\xAF", "\xED\xA0\x80", "\xE2\x82",
        "\xF0\x80\x80\xAF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xF0\x9F\x98"}) {
    CHECK_FALSE(refusal("\"" + std::string(bytes) + "\"").empty());
    CHECK_FALSE(tenon::is_utf8(bytes));
  }
  CHECK(tenon::is_utf8("a\u00e9\u20ac\U0001F600"));
  CHECK(refusal("\xEF\xBB\xBF{}") == "JSON: byte 0: expected a value, got byte 0xEF");
}

TEST_CASE("Control characters must be escaped") {
  CHECK(refusal("\"a\nb\"") == "JSON: byte 2: expected a control character to be escaped, got byte 0x0A");
}

TEST_CASE("Half of a surrogate pair is refused") {
  CHECK(refusal(R"("\ud83d")") == "JSON: byte 1: expected surrogates in pairs, got a lone \\ud83d");
  CHECK(refusal(R"("x\ude00")") == "JSON: byte 2: expected surrogates in pairs, got a lone \\ude00");
  CHECK(refusal(R"("\ud83d\u0041")") == "JSON: byte 1: expected surrogates in pairs, got a lone \\ud83d");
  CHECK(refusal(R"("\ud83dx")") == "JSON: byte 1: expected surrogates in pairs, got a lone \\ud83d");
  CHECK(refusal(R"("\ud8")") == "JSON: byte 5: expected four hexadecimal digits after '\\u', got '\"'");
}

TEST_CASE("What only other dialects allow is refused") {
  CHECK(refusal("NaN") == "JSON: byte 0: expected a value, got 'N'");
  CHECK(refusal("-Infinity") == "JSON: byte 1: expected a digit, got 'I'");
  CHECK(refusal("012") == "JSON: byte 1: expected no digit after a leading 0, got '1'");
  CHECK(refusal("+1") == "JSON: byte 0: expected a value, got '+'");
  CHECK(refusal(".5") == "JSON: byte 0: expected a value, got '.'");
  CHECK(refusal("1.") == "JSON: byte 2: expected a digit, got the end of the text");
  CHECK(refusal("[1,]") == "JSON: byte 3: expected a value, got ']'");
  CHECK(refusal("{\"a\":1,}") == "JSON: byte 7: expected a key in quotes, got '}'");
  CHECK(refusal("{a:1}") == "JSON: byte 1: expected a key in quotes, got 'a'");
  CHECK(refusal("{\"a\":1;}") == "JSON: byte 6: expected ',' or '}', got ';'");
  CHECK(refusal("'a'") == "JSON: byte 0: expected a value, got '''");
  CHECK(refusal("\"\\x41\"") == "JSON: byte 2: expected an escape of JSON after '\\', got 'x'");
  CHECK(refusal("// no\n1") == "JSON: byte 0: expected a value, got '/'");
  CHECK(refusal("nul") == "JSON: byte 0: expected a value, got 'n'");
}

TEST_CASE("Quoting a string and reading it gives it back") {
  CHECK(tenon::json_quote("a\"b\\c/\b\f\n\r\t\x01\x1f\x7f\u00e9") ==
        "\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\u00e9\"");
  std::string all;
  for (char c = 0; c < 0x7F; ++c) all += c;
  all += "\u00e9\u20ac\U0001F600";
  CHECK(text_of(tenon::json_quote(all)) == all);
}

TEST_CASE("A key that a large object has twice is refused too") {
  std::string text = "{";
  for (int i = 0; i < 100; ++i) text += tenon::concat("\"k", i, "\":0,");
  CHECK(refusal(text + "\"k100\":0}").empty());
  CHECK(refusal(text + "\"k7\":0}") == "JSON: byte 791: expected each key once, got \"k7\" again");
}

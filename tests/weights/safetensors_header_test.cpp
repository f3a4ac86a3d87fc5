// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_VOID_CAST_EXPRESSIONS // CHECK_THROWS drops what a [[nodiscard]] function would return
#include <doctest/doctest.h>

#include <tenon/weights/safetensors_header.hpp>

#include "support/file_bytes.hpp"

#include <string>
#include <string_view>

using tenon::load_error;
using tenon::SafetensorsHeader;
using tenon::test::safetensors_bytes;

namespace {

SafetensorsHeader parse(const std::string& file) {
  return tenon::parse_safetensors_header(tenon::test::as_bytes(file), "a.safetensors");
}

// The header `{"w": {"dtype": ..., "shape": ..., "data_offsets": ...}}` over 16 data bytes.
std::string one_tensor(std::string_view dtype, std::string_view shape, std::string_view offsets,
                       std::size_t data_bytes = 16) {
  return safetensors_bytes(
      tenon::concat(R"({"w":{"dtype":)", dtype, R"(,"shape":)", shape, R"(,"data_offsets":)", offsets, "}}"),
      data_bytes);
}

// One U8 tensor for each pair, named a, b, c ... , over 8 data bytes.
struct Range {
  int begin;
  int end;
};
std::string u8_tensors(std::initializer_list<Range> ranges) {
  std::string header = "{";
  char name = 'a';
  for (const auto& [begin, end] : ranges)
    header +=
        tenon::concat(header == "{" ? "" : ",", "\"", std::string(1, name++), R"(":{"dtype":"U8","shape":[)",
                      end - begin, R"(],"data_offsets":[)", begin, ",", end, "]}");
  return safetensors_bytes(header + "}", 8);
}

} // namespace

#define CHECK_REFUSED(file, sentence)                                                                        \
  CHECK_THROWS_WITH_AS(parse(file), "a.safetensors: " sentence, load_error)

TEST_CASE("A header gives every tensor its dtype and shape and place") {
  const SafetensorsHeader header =
      parse(safetensors_bytes(R"({"q.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[2,10]},)"
                              R"("bias":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}   )",
                              10));
  REQUIRE(header.entries.size() == 2);
  CHECK(header.entries[0].name == "bias"); // by name, not by place
  const tenon::TensorEntry* const weight = header.find("q.weight");
  REQUIRE(weight != nullptr);
  CHECK(weight->text() == "[2, 1] F32");
  CHECK(weight->begin == 2);
  CHECK(weight->end == 10);
  CHECK(header.data_begin == 8 + 124);
  CHECK(header.find("q.weigh") == nullptr);
  CHECK(header.find("zzz") == nullptr);
}

TEST_CASE("Metadata keeps the order of the file") {
  const SafetensorsHeader header =
      parse(safetensors_bytes(R"({"__metadata__":{"z":"1","format":"pt","a":""}})"));
  REQUIRE(header.metadata.size() == 3);
  CHECK(header.metadata[0] == tenon::MetadataPair{"z", "1"});
  CHECK(*header.metadata_value("format") == "pt");
  CHECK(header.metadata_value("ss_network_dim") == nullptr);
}

TEST_CASE("Scalars and empty tensors and empty files are taken") {
  CHECK(parse(one_tensor("\"F64\"", "[]", "[0,8]", 8)).entries[0].text() == "[] F64");
  CHECK(parse(one_tensor("\"F64\"", "[3,0,2]", "[0,0]", 0)).entries[0].text() == "[3, 0, 2] F64");
  CHECK(parse(safetensors_bytes("{}")).entries.empty());
  CHECK(parse(safetensors_bytes("{} \n\t\r")).entries.empty());
  CHECK(parse(safetensors_bytes(R"({"__metadata__":null})")).metadata.empty());
  CHECK(parse(u8_tensors({{0, 0}, {0, 5}, {5, 5}, {5, 8}, {8, 8}})).entries.size() == 5);
  CHECK(parse(safetensors_bytes(R"({"":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1)).find("") !=
        nullptr);
}

TEST_CASE("Every dtype that Tenon knows by name is taken") {
  for (const tenon::DTypeInfo& info : tenon::dtype_table) {
    const auto bytes = static_cast<std::size_t>(info.bytes);
    const SafetensorsHeader header = parse(one_tensor(tenon::concat("\"", info.name, "\""), "[1]",
                                                      tenon::concat("[0,", info.bytes, "]"), bytes));
    CHECK(tenon::dtype_name(header.entries[0].dtype) == info.name);
  }
}

TEST_CASE("A file without a whole header is refused") {
  using namespace std::string_literals;
  CHECK_REFUSED(""s, "expected at least 8 bytes, got 0");
  CHECK_REFUSED("1234567"s, "expected at least 8 bytes, got 7");
  CHECK_REFUSED(safetensors_bytes(""), "expected a header, got a header length of 0");
  CHECK_REFUSED("\x09\0\0\0\0\0\0\0{\"a\":{} "s,
                "expected a header that ends in the file's 16 bytes, got a header length of 9");
  CHECK_REFUSED("\x01\xE1\xF5\x05\0\0\0\0{}"s, "expected a header of at most 100000000 bytes, got 100000001");
  CHECK_REFUSED("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}"s,
                "expected a header of at most 100000000 bytes, got 18446744073709551615");
  CHECK_REFUSED(safetensors_bytes(" {}"), "expected a header that begins with '{', got byte 0x20");
  CHECK_REFUSED(safetensors_bytes("[]"), "expected a header that begins with '{', got '['");
}

TEST_CASE("A header that is not strict JSON is refused with the byte of the file") {
  CHECK_REFUSED(safetensors_bytes(R"({"w":})"), "byte 13: expected a value, got '}'");
  CHECK_REFUSED(safetensors_bytes("{}{"), "byte 10: expected the end of the text, got '{'");
  CHECK_REFUSED(safetensors_bytes("{\"\xFF\":1}"), "byte 10: expected UTF-8, got byte 0xFF");
}

TEST_CASE("A name or member given twice is refused") {
  CHECK_REFUSED(safetensors_bytes(R"({"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{}})"),
                "byte 61: expected each key once, got \"w\" again");
  CHECK_REFUSED(safetensors_bytes(R"({"w":{"dtype":"U8","dtype":"U8"}})"),
                "byte 27: expected each key once, got \"dtype\" again");
  CHECK_REFUSED(safetensors_bytes(R"({"__metadata__":{"a":"1","a":"2"}})"),
                "byte 33: expected each key once, got \"a\" again");
}

TEST_CASE("An entry must have its three members and no other") {
  CHECK_REFUSED(safetensors_bytes(R"({"w":3})"),
                "w: expected an object of dtype, shape and data_offsets, got 3");
  CHECK_REFUSED(safetensors_bytes(R"({"w":["U8",[0],[0,0]]})"),
                "w: expected an object of dtype, shape and data_offsets, got an array of 3");
  CHECK_REFUSED(safetensors_bytes(R"({"w":{"shape":[0],"data_offsets":[0,0]}})"),
                "w: expected a member dtype, got none");
  CHECK_REFUSED(safetensors_bytes(R"({"w":{"dtype":"U8","data_offsets":[0,0]}})"),
                "w: expected a member shape, got none");
  CHECK_REFUSED(safetensors_bytes(R"({"w":{"dtype":"U8","shape":[0]}})"),
                "w: expected a member data_offsets, got none");
  CHECK_REFUSED(safetensors_bytes(R"({"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"strides":[1]}})"),
                "w: expected no members but dtype, shape and data_offsets, got \"strides\"");
}

TEST_CASE("A dtype that Tenon does not know is refused by its name") {
#define KNOWN "F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U64, U32, U16, U8, BOOL"
  CHECK_REFUSED(one_tensor("\"C64\"", "[2]", "[0,16]"), "w: expected a dtype of " KNOWN ", got \"C64\"");
  CHECK_REFUSED(one_tensor("\"f32\"", "[4]", "[0,16]"), "w: expected a dtype of " KNOWN ", got \"f32\"");
  CHECK_REFUSED(one_tensor("32", "[4]", "[0,16]"), "w: expected a dtype of " KNOWN ", got 32");
#undef KNOWN
}

TEST_CASE("A shape must be up to eight whole numbers") {
  CHECK(parse(one_tensor("\"F32\"", "[1,1,1,1,1,1,1,4]", "[0,16]")).entries[0].rank == 8);
  CHECK_REFUSED(one_tensor("\"F32\"", "[1,1,1,1,1,1,1,1,4]", "[0,16]"),
                "w: expected at most 8 dimensions, got 9");
  CHECK_REFUSED(one_tensor("\"F32\"", "4", "[0,16]"), "w: expected a shape of whole numbers, got 4");
  CHECK_REFUSED(one_tensor("\"F32\"", "[-4]", "[0,16]"),
                "w: expected a shape of whole numbers from 0 to 2^63 - 1, got -4");
  CHECK_REFUSED(one_tensor("\"F32\"", "[-0]", "[0,16]"),
                "w: expected a shape of whole numbers from 0 to 2^63 - 1, got -0");
  CHECK_REFUSED(one_tensor("\"F32\"", "[4.0]", "[0,16]"),
                "w: expected a shape of whole numbers from 0 to 2^63 - 1, got 4.0");
  CHECK_REFUSED(one_tensor("\"F32\"", "[\"4\"]", "[0,16]"),
                "w: expected a shape of whole numbers from 0 to 2^63 - 1, got \"4\"");
  CHECK_REFUSED(one_tensor("\"F32\"", "[9223372036854775808]", "[0,16]"),
                "w: expected a shape of whole numbers from 0 to 2^63 - 1, got 9223372036854775808");
}

TEST_CASE("A shape whose bytes overflow is refused even where a zero would hide it") {
  CHECK_REFUSED(one_tensor("\"F32\"", "[4294967296,4294967296]", "[0,0]"),
                "w: expected a shape of less than 2^63 bytes, got [4294967296, 4294967296] F32");
  CHECK_REFUSED(one_tensor("\"F32\"", "[2305843009213693952]", "[0,0]"),
                "w: expected a shape of less than 2^63 bytes, got [2305843009213693952] F32");
  CHECK_REFUSED(one_tensor("\"U8\"", "[0,9223372036854775807,2]", "[0,0]", 0),
                "w: expected a shape of less than 2^63 bytes, got [0, 9223372036854775807, 2] U8");
}

TEST_CASE("Offsets must be two whole numbers in order") {
  CHECK_REFUSED(one_tensor("\"F32\"", "[4]", "16"), "w: expected data_offsets of two whole numbers, got 16");
  CHECK_REFUSED(one_tensor("\"F32\"", "[4]", "[0,16,16]"),
                "w: expected data_offsets of two whole numbers, got an array of 3");
  CHECK_REFUSED(one_tensor("\"F32\"", "[4]", "[-16,0]"),
                "w: expected data_offsets of whole numbers from 0 to 2^63 - 1, got -16");
  CHECK_REFUSED(one_tensor("\"F32\"", "[4]", "[0,1.6e1]"),
                "w: expected data_offsets of whole numbers from 0 to 2^63 - 1, got 1.6e1");
  CHECK_REFUSED(one_tensor("\"F32\"", "[4]", "[0,18446744073709551632]"),
                "w: expected data_offsets of whole numbers from 0 to 2^63 - 1, got 18446744073709551632");
  CHECK_REFUSED(one_tensor("\"F32\"", "[4]", "[16,0]"),
                "w: expected data_offsets that begin before they end, got [16, 0]");
}

TEST_CASE("A tensor must have the bytes that its shape asks for") {
  CHECK_REFUSED(one_tensor("\"F32\"", "[2,2]", "[0,12]"),
                "w: expected 16 bytes for [2, 2] F32, got 12 at [0, 12]");
  CHECK_REFUSED(one_tensor("\"F16\"", "[]", "[0,16]"), "w: expected 2 bytes for [] F16, got 16 at [0, 16]");
  CHECK_REFUSED(one_tensor("\"F32\"", "[0]", "[0,16]"), "w: expected 0 bytes for [0] F32, got 16 at [0, 16]");
}

TEST_CASE("Tensors must follow each other without overlap or hole") {
  CHECK_REFUSED(u8_tensors({{0, 5}, {3, 8}}),
                "b: expected data from byte 5 on, where a ends, got the overlapping [3, 8]");
  CHECK_REFUSED(u8_tensors({{0, 8}, {0, 8}}),
                "b: expected data from byte 8 on, where a ends, got the overlapping [0, 8]");
  CHECK_REFUSED(u8_tensors({{4, 8}, {0, 3}}),
                "a: expected data from byte 3 on, where b ends, got a hole before [4, 8]");
  CHECK_REFUSED(u8_tensors({{1, 8}}),
                "a: expected data from byte 0 on, where the header ends, got a hole before [1, 8]");
  CHECK_REFUSED(u8_tensors({{0, 8}, {4, 4}}),
                "b: expected data from byte 8 on, where a ends, got the overlapping [4, 4]");
  CHECK_REFUSED(u8_tensors({{0, 8}, {9, 9}}),
                "b: expected data from byte 8 on, where a ends, got a hole before [9, 9]");
}

TEST_CASE("Tensors must cover the file to its last byte and no further") {
  CHECK_REFUSED(u8_tensors({{0, 5}, {5, 9}}), "b: expected data inside the file's 8 data bytes, got [5, 9]");
  CHECK_REFUSED(u8_tensors({{0, 5}, {5, 7}}), "expected tensors that cover the file's 8 data bytes, got 7");
  CHECK_REFUSED(safetensors_bytes("{}", 3), "expected tensors that cover the file's 3 data bytes, got 0");
}

TEST_CASE("Metadata must be an object of strings") {
  CHECK_REFUSED(safetensors_bytes(R"({"__metadata__":["a"]})"),
                "__metadata__: expected an object of strings, got an array of 1");
  CHECK_REFUSED(safetensors_bytes(R"({"__metadata__":{"rank":8}})"),
                "__metadata__: expected a string for \"rank\", got 8");
}

TEST_CASE("An error of a header carries the file and the tensor") {
  try {
    static_cast<void>(parse(one_tensor("\"F32\"", "[2,2]", "[0,12]")));
    FAIL("taken");
  } catch (const load_error& e) {
    CHECK(e.code() == tenon::ErrorCode::bad_file);
    CHECK(e.place().file == "a.safetensors");
    CHECK(e.place().key == "w");
  }
}

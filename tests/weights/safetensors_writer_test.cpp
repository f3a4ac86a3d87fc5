// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_VOID_CAST_EXPRESSIONS // CHECK_THROWS drops what a [[nodiscard]] function would return
#include <doctest/doctest.h>

#include <tenon/weights/safetensors.hpp>
#include <tenon/weights/safetensors_writer.hpp>

#include "support/file_bytes.hpp"
#include "support/temporary_folder.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#if !defined(_WIN32)
#include <csignal>
#include <sys/resource.h>
#endif

using tenon::Category;
using tenon::concat;
using tenon::DType;
using tenon::Ledger;
using tenon::MetadataPair;
using tenon::NamedTensor;
using tenon::SafetensorsFile;
using tenon::TensorView;
using tenon::write_safetensors;
using tenon::test::read_file;
using tenon::test::TemporaryFolder;
using tenon::test::write_file;

namespace {

using Shape = std::vector<std::int64_t>;

// Bytes 0, 1, 2 ... 63 to make tensors of.
const std::array<std::byte, 64> ramp = [] {
  std::array<std::byte, 64> out{};
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i);
  return out;
}();

TensorView ramp_view(DType dtype, const Shape& shape, std::size_t first = 0) {
  return {ramp.data() + first, dtype, shape};
}

std::string ramp_bytes(std::size_t first, std::size_t count) {
  return {reinterpret_cast<const char*>(ramp.data()) + first, count};
}

void write(const std::string& path, const std::vector<NamedTensor>& tensors,
           const std::vector<MetadataPair>& metadata = {}) {
  write_safetensors(path, tensors, metadata);
}

// What a file has behind its header.
std::string data_of(const std::string& path) {
  Ledger ledger;
  const SafetensorsFile file(path, ledger, Category::adapter);
  return read_file(path).substr(static_cast<std::size_t>(file.header().data_begin));
}

} // namespace

TEST_CASE("A written file is the bytes that the reference writer writes") {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  write(path,
        {{"c", ramp_view(DType::boolean, {1}, 0)},
         {"z", ramp_view(DType::f32, {1}, 8)},
         {"a", ramp_view(DType::i64, {1}, 16)},
         {"\u00e9\n\x7f\x01/", ramp_view(DType::i8, {}, 4)},
         {"b", ramp_view(DType::f64, {1, 1}, 24)}},
        {{"a", "b"}, {"k", "v"}});
  const std::string header =
      "{\"__metadata__\":{\"a\":\"b\",\"k\":\"v\"},"
      "\"a\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
      "\"b\":{\"dtype\":\"F64\",\"shape\":[1,1],\"data_offsets\":[8,16]},"
      "\"z\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[16,20]},"
      "\"\u00e9\\n\x7f\\u0001/\":{\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[20,21]},"
      "\"c\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[21,22]}}  ";
  std::string expected = tenon::test::safetensors_bytes(header);
  expected += ramp_bytes(16, 8) + ramp_bytes(24, 8) + ramp_bytes(8, 4) + ramp_bytes(4, 1) + ramp_bytes(0, 1);
  CHECK(header.size() % 8 == 0);
  CHECK(read_file(path) == expected);
}

TEST_CASE("Dtypes are written in the reference writer's order and names within them") {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  std::vector<std::string> names;
  for (const tenon::DTypeInfo& info : tenon::dtype_table) {
    names.push_back(concat("b.", info.name));
    names.push_back(concat("a.", info.name));
  }
  std::vector<NamedTensor> tensors;
  for (std::size_t i = 0; i < names.size(); ++i)
    tensors.push_back({names[i], ramp_view(static_cast<DType>(i / 2), {1}, i)});
  write(path, tensors);

  Ledger ledger;
  const SafetensorsFile file(path, ledger, Category::adapter);
  std::vector<tenon::TensorEntry> entries(file.entries().begin(), file.entries().end());
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::string order;
  for (const tenon::TensorEntry& entry : entries) {
    order += entry.name + " ";
    CHECK(tenon::is_aligned(file.view(entry)));
  }
  CHECK(order ==
        "a.U64 b.U64 a.I64 b.I64 a.F64 b.F64 a.F32 b.F32 a.U32 b.U32 a.I32 b.I32 a.BF16 b.BF16 a.F16 b.F16 "
        "a.U16 b.U16 a.I16 b.I16 a.F8_E4M3 b.F8_E4M3 a.F8_E5M2 b.F8_E5M2 a.I8 b.I8 a.U8 b.U8 a.BOOL b.BOOL ");
}

TEST_CASE("What was written is read back") {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  write(path, {{"w", ramp_view(DType::bf16, {3, 5})}, {"empty", ramp_view(DType::f32, {4, 0})}},
        {{"format", "pt"}});
  Ledger ledger;
  const SafetensorsFile file(path, ledger, Category::adapter);
  CHECK(file.at("w").text() == "[3, 5] BF16");
  CHECK(std::memcmp(file.at("w").data, ramp.data(), 30) == 0);
  CHECK(file.at("empty").text() == "[4, 0] F32");
  CHECK(*file.header().metadata_value("format") == "pt");
}

TEST_CASE("A file without tensors is a file") {
  const TemporaryFolder folder;
  write(folder.file("a.safetensors"), {});
  CHECK(read_file(folder.file("a.safetensors")) == tenon::test::safetensors_bytes("{}      "));
}

TEST_CASE("A transposed view is written row-major") {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  TensorView view = ramp_view(DType::u16, {2, 3});
  std::swap(view.extents[0], view.extents[1]);
  std::swap(view.strides[0], view.strides[1]);
  write(path, {{"w", view}});
  CHECK(data_of(path) == ramp_bytes(0, 2) + ramp_bytes(6, 2) + ramp_bytes(2, 2) + ramp_bytes(8, 2) +
                             ramp_bytes(4, 2) + ramp_bytes(10, 2));
}

TEST_CASE("Slices and broadcasts and reversed views are written element by element as they index") {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  TensorView slice = ramp_view(DType::u8, {2, 1, 3}); // columns 0 to 2 of a matrix of 4
  slice.strides = {4, 99, 1};
  TensorView broadcast = ramp_view(DType::u8, {2, 2}, 9);
  broadcast.strides = {0, 1};
  TensorView reversed = ramp_view(DType::u8, {3}, 2);
  reversed.strides = {-1};
  TensorView empty = ramp_view(DType::u8, {3, 0});
  empty.strides = {7, 5};
  write(path, {{"a", slice}, {"b", broadcast}, {"c", reversed}, {"d", empty}});
  CHECK(data_of(path) == std::string("\0\1\2\4\5\6"
                                     "\x9\xA\x9\xA"
                                     "\2\1\0",
                                     13));
}

TEST_CASE("Names and texts that no file can hold are refused before a file is made") {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  const TensorView x = ramp_view(DType::u8, {1});
  const auto refused = [&path](const std::string& sentence) { return concat(path, ": ", sentence); };
  CHECK_THROWS_WITH_AS(write(path, {{"w", x}, {"v", x}, {"w", x}}),
                       refused("w: expected each name once, got it twice").c_str(), tenon::error);
  CHECK_THROWS_WITH_AS(
      write(path, {{"__metadata__", x}}),
      refused("__metadata__: expected another name for a tensor, got the reserved one").c_str(),
      tenon::error);
  CHECK_THROWS_WITH_AS(write(path, {{"w\xFF", x}}),
                       refused("w\xFF: expected a name in UTF-8, got other bytes").c_str(), tenon::error);
  CHECK_THROWS_WITH_AS(write(path, {}, {{"k", "\x80"}}),
                       refused("__metadata__: expected keys and values in UTF-8, got other bytes").c_str(),
                       tenon::error);
  CHECK_THROWS_WITH_AS(write(path, {}, {{"k", "1"}, {"k", "2"}}),
                       refused("__metadata__: expected each key once, got \"k\" twice").c_str(),
                       tenon::error);
  CHECK_THROWS_WITH_AS(write(path, {}, {{"k", std::string(100'000'000, 'x')}}),
                       refused("expected a header of at most 100000000 bytes, got 100000032").c_str(),
                       tenon::error);
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("A path that cannot be written is refused in the words of the system") {
  const TemporaryFolder folder;
  const std::string path = folder.file("absent/a.safetensors");
  CHECK_THROWS_WITH_AS(
      write(path, {}),
      concat(path, ": expected a file that can be written, got ", std::strerror(ENOENT)).c_str(),
      tenon::error);
}

#if !defined(_WIN32)
TEST_CASE("A path that is a folder is refused and no temporary file stays") {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  std::filesystem::create_directory(path);
  CHECK_THROWS_WITH_AS(
      write(path, {}),
      concat(path, ": expected a path that a file can be renamed to, got ", std::strerror(EISDIR)).c_str(),
      tenon::error);
  CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST_CASE("A system that takes no more bytes leaves the old file as it was") {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  write_file(path, "old");
  const std::vector<std::byte> large(1 << 20);
  const Shape shape{1 << 20};
  const std::string sentence = concat(path, ": expected room for the whole file, got ", std::strerror(EFBIG));

  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t limit :
       {rlim_t{1000}, rlim_t{1 << 19}}) { // in the write, and at the close for a small file
    rlimit tight = before;
    tight.rlim_cur = limit;
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
    std::string got;
    try {
      write(path, {{"w", TensorView(large.data(), DType::u8, shape)}});
    } catch (const tenon::error& e) {
      got = e.what();
    }
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(got == sentence);
  }
  std::signal(SIGXFSZ, handler);
  CHECK(read_file(path) == "old");
  CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST_CASE("A file may be rewritten from its own mapping") {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  write(path, {{"w", ramp_view(DType::u8, {8})}});
  Ledger ledger;
  const SafetensorsFile file(path, ledger, Category::adapter);
  write(path, {{"v", file.at("w")}});
  file.check_unchanged(); // it still maps the old one
  CHECK(data_of(path) == ramp_bytes(0, 8));
}
#endif

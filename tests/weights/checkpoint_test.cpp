// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_VOID_CAST_EXPRESSIONS // CHECK_THROWS drops what a [[nodiscard]] function would return
#include <doctest/doctest.h>

#include <tenon/weights/checkpoint.hpp>
#include <tenon/weights/safetensors_writer.hpp>

#include "support/file_bytes.hpp"
#include "support/temporary_folder.hpp"

#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using tenon::Category;
using tenon::Checkpoint;
using tenon::concat;
using tenon::Ledger;
using tenon::load_error;
using tenon::test::TemporaryFolder;
using tenon::test::write_file;

namespace {

constexpr std::byte bytes[] = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
constexpr std::int64_t four[] = {4};

// A safetensors file of U8 tensors of four bytes with these names.
void write_shard(const std::string& path, std::initializer_list<std::string_view> names) {
  std::vector<tenon::NamedTensor> tensors;
  for (const std::string_view name : names)
    tensors.push_back({name, tenon::TensorView(bytes, tenon::DType::u8, four)});
  tenon::write_safetensors(path, tensors);
}

// A folder with two shards, "one.safetensors" of a and b and "two.safetensors" of c, and an index of them.
struct ShardedFolder : TemporaryFolder {
  std::string index = file("model.safetensors.index.json");

  explicit ShardedFolder(std::string_view weight_map =
                             R"({"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors"})") {
    write_shard(file("one.safetensors"), {"a", "b"});
    write_shard(file("two.safetensors"), {"c"});
    write_file(index, concat(R"({"metadata":{"total_size":12},"weight_map":)", weight_map, "}"));
  }
};

} // namespace

#define CHECK_REFUSED(path, ...)                                                                             \
  CHECK_THROWS_WITH_AS(Checkpoint::open(path, ledger, Category::base_mapped), concat(__VA_ARGS__).c_str(),   \
                       load_error);                                                                          \
  CHECK(ledger.current().total() == 0)

TEST_CASE("A checkpoint of one file has its tensors") {
  const TemporaryFolder folder;
  Ledger ledger;
  const std::string path = folder.file("weights.safetensors");
  write_shard(path, {"b", "a"});
  const Checkpoint checkpoint = Checkpoint::open(path, ledger, Category::base_mapped);
  REQUIRE(checkpoint.tensors().size() == 2);
  CHECK(checkpoint.tensors()[0].name == "a");
  CHECK(checkpoint.at("b").view.text() == "[4] U8");
  CHECK(checkpoint.path_of(checkpoint.at("b")) == path);
  CHECK(checkpoint.find("c") == nullptr);
}

TEST_CASE("A checkpoint in shards is one list by name") {
  const ShardedFolder folder;
  Ledger ledger;
  const Checkpoint checkpoint = Checkpoint::open(folder.index, ledger, Category::base_mapped);
  std::string names;
  for (const tenon::CheckpointTensor& tensor : checkpoint.tensors()) names += tensor.name;
  CHECK(names == "abc");
  CHECK(checkpoint.files().size() == 2);
  CHECK(checkpoint.path_of(checkpoint.at("a")) == folder.file("one.safetensors"));
  CHECK(checkpoint.path_of(checkpoint.at("c")) == folder.file("two.safetensors"));
  CHECK(checkpoint.at("c").view.data[3] == std::byte{4});
}

TEST_CASE("A folder is opened by the names that transformers and diffusers write") {
  const ShardedFolder sharded;
  const TemporaryFolder folder;
  Ledger ledger;
  CHECK(Checkpoint::open(sharded.path(), ledger, Category::base_mapped).files().size() == 2);
  CHECK(Checkpoint::open(sharded.path() + "/", ledger, Category::base_mapped).files().size() == 2);
  write_shard(folder.file("diffusion_pytorch_model.safetensors"), {"d"});
  CHECK(Checkpoint::open(folder.path(), ledger, Category::base_mapped).tensors()[0].name == "d");
  write_shard(sharded.file("model.safetensors"), {"whole"}); // goes before an index
  CHECK(Checkpoint::open(sharded.path(), ledger, Category::base_mapped).tensors()[0].name == "whole");
}

TEST_CASE("A folder without a checkpoint says what was looked for") {
  const TemporaryFolder folder;
  Ledger ledger;
  CHECK_REFUSED(folder.path(), folder.path(),
                ": expected a folder with one of model.safetensors, model.safetensors.index.json, "
                "diffusion_pytorch_model.safetensors, diffusion_pytorch_model.safetensors.index.json, got "
                "none of them");
}

TEST_CASE("A checkpoint stands in the ledger with all its files") {
  const ShardedFolder folder;
  Ledger ledger;
  {
    Checkpoint checkpoint = Checkpoint::open(folder.index, ledger, Category::adapter);
    const auto files = std::filesystem::file_size(folder.file("one.safetensors")) +
                       std::filesystem::file_size(folder.file("two.safetensors"));
    CHECK(checkpoint.bytes() == static_cast<std::int64_t>(files));
    CHECK(ledger.current()[Category::adapter] == checkpoint.bytes());
    const tenon::CheckpointTensor before = checkpoint.at("a");
    const Checkpoint moved(std::move(checkpoint));
    CHECK(moved.at("a").view.data == before.view.data);
    CHECK(before.name == "a"); // the name lives on in the checkpoint it moved to
    CHECK(ledger.current()[Category::adapter] == moved.bytes());
  }
  CHECK(ledger.current().total() == 0);
}

TEST_CASE("A missing tensor of a checkpoint is an error with the nearest name") {
  const TemporaryFolder folder;
  Ledger ledger;
  const std::string path = folder.file("a.safetensors");
  write_shard(path, {"encoder.weight"});
  const Checkpoint checkpoint = Checkpoint::open(path, ledger, Category::base_mapped);
  CHECK_THROWS_WITH_AS(checkpoint.at("encoder.weights"),
                       concat(path,
                              ": encoder.weights: expected a tensor of this name, got none; the nearest is ",
                              "encoder.weight")
                           .c_str(),
                       load_error);
}

TEST_CASE("A shard that is not there is refused") {
  const ShardedFolder folder(R"({"a":"one.safetensors","c":"three.safetensors"})");
  Ledger ledger;
  CHECK_REFUSED(folder.index, folder.index, ": c: expected its shard ", folder.file("three.safetensors"),
                ", got no such file");
}

TEST_CASE("A tensor that its shard does not have is refused") {
  const ShardedFolder folder(R"({"a":"one.safetensors","b":"two.safetensors"})");
  Ledger ledger;
  CHECK_REFUSED(folder.index, folder.file("two.safetensors"), ": b: expected a tensor that ", folder.index,
                " places here, got none");
}

TEST_CASE("A tensor that two shards have is refused") {
  const ShardedFolder folder;
  Ledger ledger;
  write_shard(folder.file("two.safetensors"), {"b", "c"});
  CHECK_REFUSED(folder.index, folder.file("two.safetensors"),
                ": b: expected each tensor in one shard, got it in ", folder.file("one.safetensors"), " too");
}

TEST_CASE("A tensor that the index lists twice is refused") {
  const ShardedFolder folder(R"({"a":"one.safetensors","a":"two.safetensors"})");
  Ledger ledger;
  CHECK_REFUSED(folder.index, folder.index, ": byte 66: expected each key once, got \"a\" again");
}

TEST_CASE("A tensor that a shard has and the index does not list is among the others") {
  const ShardedFolder folder(R"({"a":"one.safetensors"})");
  Ledger ledger;
  const Checkpoint checkpoint = Checkpoint::open(folder.index, ledger, Category::base_mapped);
  CHECK(checkpoint.tensors().size() == 2);
  CHECK(checkpoint.find("b") != nullptr);
}

TEST_CASE("A shard outside the folder of its index is refused") {
  Ledger ledger;
  for (const std::string_view name : {"../one.safetensors", "x/../../one.safetensors", "/one.safetensors",
                                      "..", "c:one.safetensors", "x\\..\\one.safetensors", ""}) {
    const std::string quoted = tenon::json_quote(name);
    const ShardedFolder folder(concat("{\"a\":", quoted, "}"));
    CHECK_REFUSED(folder.index, folder.index, ": a: expected a shard inside the index's folder, got ",
                  quoted);
  }
  CHECK(tenon::is_inside_folder("transformer/..one.safetensors"));
  CHECK_FALSE(tenon::is_inside_folder(std::string_view("one\0", 4)));
}

TEST_CASE("An index that is not one is refused") {
  const TemporaryFolder folder;
  Ledger ledger;
  const std::string index = folder.file("index.json");
  write_file(index, "[]");
  CHECK_REFUSED(index, index, ": expected an object, got an array of 0");
  write_file(index, "{}");
  CHECK_REFUSED(index, index, ": expected a member \"weight_map\", got none");
  write_file(index, R"({"weight_map":3})");
  CHECK_REFUSED(index, index, ": weight_map: expected an object, got 3");
  write_file(index, R"({"weight_map":{"a":1}})");
  CHECK_REFUSED(index, index, ": a: expected a string, got 1");
  write_file(index, "{");
  CHECK_REFUSED(index, index, ": byte 1: expected a key in quotes, got the end of the text");
}

#if !defined(_WIN32) // where a mapped file cannot be written at all
TEST_CASE("A shard that is written while it is mapped is found") {
  const ShardedFolder folder;
  Ledger ledger;
  const Checkpoint checkpoint = Checkpoint::open(folder.index, ledger, Category::base_mapped);
  checkpoint.check_unchanged();
  const std::string shard = folder.file("two.safetensors");
  const auto size = std::filesystem::file_size(shard);
  std::filesystem::resize_file(shard, size - 1);
  CHECK_THROWS_WITH_AS(checkpoint.check_unchanged(),
                       concat(shard, ": expected the ", size, " bytes that were mapped, got a file of ",
                              size - 1, " bytes written since")
                           .c_str(),
                       tenon::error);
}
#endif

// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_VOID_CAST_EXPRESSIONS // CHECK_THROWS drops what a [[nodiscard]] function would return
#include <doctest/doctest.h>

#include <tenon/weights/safetensors.hpp>

#include "support/allocation_probe.hpp"
#include "support/file_bytes.hpp"
#include "support/temporary_folder.hpp"

#include <cstring>
#include <new>
#include <string>
#include <utility>

using tenon::Category;
using tenon::concat;
using tenon::Ledger;
using tenon::SafetensorsFile;
using tenon::TensorView;
using tenon::test::safetensors_bytes;
using tenon::test::TemporaryFolder;
using tenon::test::write_file;

namespace {

// Header of 160 bytes; data bytes 0, 1, 2 ...
const std::string two_tensors =
    safetensors_bytes(R"({"__metadata__":{"format":"pt"},)"
                      R"("layers.0.query.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                      R"("scale":{"dtype":"U8","shape":[],"data_offsets":[16,17]}})",
                      17);

} // namespace

TEST_CASE("Tensors are views into the mapping") {
  const TemporaryFolder folder;
  Ledger ledger;
  write_file(folder.file("a.safetensors"), two_tensors);
  const SafetensorsFile file(folder.file("a.safetensors"), ledger, Category::adapter);
  const TensorView weight = file.at("layers.0.query.weight");
  CHECK(weight.text() == "[2, 2] F32");
  CHECK(std::memcmp(weight.data, two_tensors.data() + file.header().data_begin, 16) == 0);
  CHECK(file.at("scale").size() == 1);
  CHECK(*file.at("scale").data == std::byte{16});
  CHECK(file.find("scale")->data == weight.data + 16);
  CHECK(*file.header().metadata_value("format") == "pt");
}

TEST_CASE("A file lists its tensors by name") {
  const TemporaryFolder folder;
  Ledger ledger;
  write_file(folder.file("a.safetensors"), two_tensors);
  const SafetensorsFile file(folder.file("a.safetensors"), ledger, Category::adapter);
  std::string names;
  for (const tenon::TensorEntry& entry : file.entries())
    names += entry.name + " " + file.view(entry).text() + "; ";
  CHECK(names == "layers.0.query.weight [2, 2] F32; scale [] U8; ");
}

TEST_CASE("A missing tensor is an error with the nearest name") {
  const TemporaryFolder folder;
  Ledger ledger;
  const std::string path = folder.file("a.safetensors");
  write_file(path, two_tensors);
  const SafetensorsFile file(path, ledger, Category::adapter);
  CHECK_FALSE(file.find("bias").has_value());
  CHECK_THROWS_WITH_AS(
      file.at("layers.0.query.weigth"),
      concat(path, ": layers.0.query.weigth: expected a tensor of this name, got none; the nearest is ",
             "layers.0.query.weight")
          .c_str(),
      tenon::load_error);
  CHECK_THROWS_WITH_AS(file.at("bias"),
                       concat(path, ": bias: expected a tensor of this name, got none").c_str(),
                       tenon::load_error);
  try {
    static_cast<void>(file.at("bias"));
  } catch (const tenon::load_error& e) {
    CHECK(e.code() == tenon::ErrorCode::missing_key);
    CHECK(e.place().key == "bias");
  }
}

TEST_CASE("A file costs the ledger its size and moving it moves no bytes") {
  const TemporaryFolder folder;
  Ledger ledger;
  write_file(folder.file("a.safetensors"), two_tensors);
  {
    SafetensorsFile file(folder.file("a.safetensors"), ledger, Category::adapter);
    const TensorView before = file.at("scale");
    CHECK(file.bytes() == static_cast<std::int64_t>(two_tensors.size()));
    CHECK(ledger.current()[Category::adapter] == file.bytes());
    const SafetensorsFile moved(std::move(file));
    CHECK(moved.at("scale").data == before.data);
    CHECK(ledger.current()[Category::adapter] == moved.bytes());
    moved.check_unchanged();
  }
  CHECK(ledger.current().total() == 0);
}

TEST_CASE("A broken file leaves nothing in the ledger") {
  const TemporaryFolder folder;
  Ledger ledger;
  const std::string path = folder.file("a.safetensors");
  write_file(path, safetensors_bytes("{}", 1));
  CHECK_THROWS_WITH_AS(SafetensorsFile(path, ledger, Category::adapter),
                       concat(path, ": expected tensors that cover the file's 1 data bytes, got 0").c_str(),
                       tenon::load_error);
  CHECK(ledger.current().total() == 0);
}

TEST_CASE("An allocation that fails while a file is opened leaves nothing in the ledger") {
  const TemporaryFolder folder;
  Ledger ledger;
  const std::string path = folder.file("a.safetensors");
  write_file(path, two_tensors);
  bool opened = false;
  for (int nth = 1; !opened; ++nth) {
    std::string copy = path;
    const tenon::test::FailAllocations fail(nth);
    try {
      const SafetensorsFile file(std::move(copy), ledger, Category::adapter);
      opened = !fail.triggered();
    } catch (const std::bad_alloc&) {
    }
  }
  CHECK(ledger.current().total() == 0);
}

TEST_CASE("Look-ups allocate nothing") {
  const TemporaryFolder folder;
  Ledger ledger;
  write_file(folder.file("a.safetensors"), two_tensors);
  const SafetensorsFile file(folder.file("a.safetensors"), ledger, Category::adapter);
  const tenon::test::AllocationProbe probe;
  const bool found = file.find("scale").has_value() && file.at("layers.0.query.weight").rank == 2;
  file.check_unchanged();
  const auto taken = probe.count();
  CHECK(found);
  CHECK(taken == 0);
}

TEST_CASE("A tensor off its alignment can be told") {
  alignas(8) const std::byte bytes[16]{};
  constexpr std::int64_t shape[] = {1};
  CHECK(tenon::is_aligned(TensorView(bytes, tenon::f32, shape)));
  CHECK_FALSE(tenon::is_aligned(TensorView(bytes + 2, tenon::f32, shape)));
  CHECK(tenon::is_aligned(TensorView(bytes + 2, tenon::bf16, shape)));
}

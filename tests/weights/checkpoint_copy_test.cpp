// SPDX-License-Identifier: Apache-2.0
#include "support/file_bytes.hpp"
#include "support/files.hpp"
#include "support/temporary_folder.hpp"

#include <tenon/weights/checkpoint_copy.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <set>

using namespace tenon;
using namespace tenon::test;

namespace {

/// Negates every element of tensors with this ending, row by row, in floats of any stored type.
struct Negate final : CheckpointEdit {
  explicit Negate(std::string name_ending) : ending(std::move(name_ending)) {}
  bool changes(const CheckpointTensor& tensor) const override { return tensor.name.ends_with(ending); }
  void rows(const CheckpointTensor& tensor, std::int64_t first, std::int64_t count, std::byte* out) override {
    const std::int64_t cols = tensor.view.extent(0) == 0 ? 0 : tensor.view.size() / tensor.view.extent(0);
    std::vector<float> values(static_cast<std::size_t>(count * cols));
    decode(tensor.view.dtype, tensor.view.data + first * cols * dtype_bytes(tensor.view.dtype), count * cols,
           values.data());
    for (float& x : values) x = -x;
    encode(tensor.view.dtype, values.data(), count * cols, out);
    largest_call = std::max(largest_call, count * cols * dtype_bytes(tensor.view.dtype));
  }
  std::string ending;
  std::int64_t largest_call = 0;
};

/// Two shards in a subfolder, an index, a tensor that the index does not list.
struct Sharded {
  TemporaryFolder folder{};
  Ledger ledger{};

  Sharded() {
    std::filesystem::create_directories(folder.file("in/parts"));
    RandomTensors first(1, DType::f32);
    first.add("a.weight", {37, 11});
    first.add("a.bias", {37});
    RandomTensors second(2, DType::bf16);
    second.add("b.weight", {5, 3, 2, 2});
    second.add("unlisted", {7});
    first.write(folder.file("in/parts/1.safetensors"));
    second.write(folder.file("in/parts/2.safetensors"));
    write_file(folder.file("in/model.safetensors.index.json"),
               R"({"metadata": {"total_size": 1}, "weight_map": {"a.weight": "parts/1.safetensors",)"
               R"("a.bias": "parts/1.safetensors", "b.weight": "parts/2.safetensors"}})");
  }
  Checkpoint open() { return Checkpoint::open(folder.file("in"), ledger, Category::base_mapped); }
};

constexpr const char* shard_names[] = {"parts/1.safetensors", "parts/2.safetensors",
                                       "model.safetensors.index.json"};

std::size_t entries_below(const std::string& folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::recursive_directory_iterator(folder)) ++count;
  return count;
}

} // namespace

TEST_CASE("A copy without changes has the same bytes in the same files") {
  Sharded sharded;
  const Checkpoint from = sharded.open();
  Negate nothing("no such tensor");
  const CheckpointCopied copied =
      copy_checkpoint(from, sharded.folder.file("out/deep"), nothing, {.ledger = &sharded.ledger});
  for (const char* name : shard_names)
    CHECK(read_file(sharded.folder.file(concat("out/deep/", name))) ==
          read_file(sharded.folder.file(concat("in/", name))));
  CHECK(copied.tensors == 4);
  CHECK(copied.changed == 0);
  CHECK(copied.files.size() == 3);
  CHECK(entries_below(sharded.folder.file("out")) == 5); // deep, parts, three files
}

TEST_CASE("Changed tensors are made of the edit's rows, with the memory of one buffer") {
  Sharded sharded;
  const Checkpoint from = sharded.open();
  Negate weights(".weight");
  const std::int64_t before = sharded.ledger.current().budgeted();
  const PeakScope peak(sharded.ledger);
  std::int64_t done = 0;
  std::set<std::string> names;
  const auto progress = [&](const Progress& p) {
    CHECK(p.bytes_done > done);
    CHECK(p.bytes_total == from.tensors()[0].view.bytes() + from.tensors()[1].view.bytes() +
                               from.tensors()[2].view.bytes() + from.tensors()[3].view.bytes());
    done = p.bytes_done;
    names.emplace(p.name);
  };
  const CheckpointCopied copied = copy_checkpoint(
      from, sharded.folder.file("out"), weights,
      {.buffer_bytes = 200, .metadata = {{"merged", "a"}}, .progress = progress, .ledger = &sharded.ledger});
  CHECK(copied.changed == 2);
  CHECK(done == copied.bytes);
  CHECK(names.size() == 4);
  CHECK(weights.largest_call <= 200);
  CHECK(peak.peak()[Category::scratch] == 200);
  CHECK(sharded.ledger.current().budgeted() == before);
  const Checkpoint to = Checkpoint::open(sharded.folder.file("out"), sharded.ledger, Category::base_mapped);
  CHECK(*to.files()[0].header().metadata_value("merged") == "a");
  for (const CheckpointTensor& tensor : from.tensors()) {
    const TensorView got = to.at(tensor.name).view;
    REQUIRE(got.text() == tensor.view.text());
    std::vector<float> a(static_cast<std::size_t>(got.size()));
    std::vector<float> b(a);
    decode(got.dtype, got.data, got.size(), a.data());
    decode(got.dtype, tensor.view.data, got.size(), b.data());
    for (std::size_t i = 0; i < a.size(); ++i)
      CHECK(a[i] == (tensor.name.ends_with(".weight") ? -b[i] : b[i]));
  }
}

TEST_CASE("One file goes to one file, or into a folder under its own name") {
  const TemporaryFolder folder;
  Ledger ledger;
  RandomTensors tensors(1, DType::f16);
  tensors.add("w", {40, 10});
  tensors.write(folder.file("w.safetensors"));
  const Checkpoint from = Checkpoint::open(folder.file("w.safetensors"), ledger, Category::base_mapped);
  Negate nothing("-");
  CHECK(copy_checkpoint(from, folder.file("copy.safetensors"), nothing).files[0] ==
        folder.file("copy.safetensors"));
  CHECK(copy_checkpoint(from, folder.file("to"), nothing).files[0] == folder.file("to/w.safetensors"));
  CHECK(read_file(folder.file("to/w.safetensors")) == read_file(folder.file("w.safetensors")));
}

TEST_CASE("Metadata that is there is kept, and replaced where its key is given") {
  const TemporaryFolder folder;
  Ledger ledger;
  const float values[] = {1, 2};
  const std::int64_t shape[] = {2};
  const NamedTensor named[] = {{"w", TensorView(values, DType::f32, shape)}};
  const MetadataPair metadata[] = {{"format", "pt"}, {"title", "old"}};
  write_safetensors(folder.file("w.safetensors"), named, metadata);
  const Checkpoint from = Checkpoint::open(folder.file("w.safetensors"), ledger, Category::base_mapped);
  Negate nothing("-");
  (void)copy_checkpoint(from, folder.file("to"), nothing, {.metadata = {{"title", "new"}, {"more", "x"}}});
  const SafetensorsFile to(folder.file("to/w.safetensors"), ledger, Category::base_mapped);
  CHECK(to.header().metadata == std::vector<MetadataPair>{{"format", "pt"}, {"title", "new"}, {"more", "x"}});
}

TEST_CASE("Stopped anywhere, a copy leaves nothing behind and what was there as it was") {
  Sharded sharded;
  const Checkpoint from = sharded.open();
  Negate weights(".weight");
  std::filesystem::create_directories(sharded.folder.file("there/parts"));
  write_file(sharded.folder.file("there/parts/1.safetensors"), "old");
  for (const int stop : {1, 3, 9}) {
    int calls = 0;
    const auto progress = [&](const Progress&) { return ++calls < stop; };
    const CheckpointCopyOptions options{.buffer_bytes = 200, .progress = progress, .ledger = &sharded.ledger};
    for (const char* name : {"new/deep", "there"}) {
      calls = 0;
      try {
        (void)copy_checkpoint(from, sharded.folder.file(name), weights, options);
        FAIL("was not stopped");
      } catch (const error& problem) {
        CHECK(problem.code() == ErrorCode::cancelled);
      }
    }
    CHECK(!std::filesystem::exists(sharded.folder.file("new")));
    CHECK(entries_below(sharded.folder.file("there")) == 2);
    CHECK(read_file(sharded.folder.file("there/parts/1.safetensors")) == "old");
    CHECK(sharded.ledger.current()[Category::scratch] == 0);
  }
}

TEST_CASE("The input is never written over") {
  Sharded sharded;
  const Checkpoint from = sharded.open();
  Negate nothing("-");
  const std::string in = sharded.folder.file("in");
  CHECK_THROWS_WITH_AS(
      (void)copy_checkpoint(from, in, nothing),
      concat(in, "/parts/1.safetensors: expected another place than the input's, got the input").c_str(),
      error);
  const std::string file = sharded.folder.file("one.safetensors");
  CHECK_THROWS_WITH_AS(
      (void)copy_checkpoint(from, file, nothing),
      concat(file, ": expected a folder for the shards of an index, got the name of one file").c_str(),
      error);
}

TEST_CASE("A budget is asked before a file is begun") {
  Sharded sharded;
  const Checkpoint from = sharded.open();
  sharded.ledger.set_budget(sharded.ledger.current().budgeted() + 100);
  Negate weights(".weight");
  CHECK_THROWS_AS(
      (void)copy_checkpoint(from, sharded.folder.file("out"), weights, {.ledger = &sharded.ledger}),
      budget_error);
  CHECK(!std::filesystem::exists(sharded.folder.file("out")));
}

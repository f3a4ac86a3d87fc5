// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"
#include "support/file_bytes.hpp"

#include <doctest/doctest.h>

#include <memory>

using namespace tenon;
using namespace tenon::test;

namespace {

std::string message_of(const auto& work) {
  try {
    work();
  } catch (const error& problem) {
    return problem.what();
  }
  return "nothing was thrown";
}

} // namespace

TEST_CASE("Weights are views of the mapping and nothing is copied") {
  Fixture<Mlp> f;
  const std::span<const std::byte> file = f.model.checkpoint().files()[0].contents();
  REQUIRE(f.model.weights().size() == 4);
  for (const TensorView& weight : f.model.weights()) {
    CHECK(weight.data >= file.data());
    CHECK(weight.data < file.data() + file.size());
  }
  CHECK(f.ledger.current()[Category::base_mapped] == static_cast<std::int64_t>(file.size()));
  CHECK(f.ledger.current()[Category::base_owned] == 0);
}

TEST_CASE("All weights that do not fit are reported together") {
  TemporaryFolder folder;
  const std::string path = folder.file("wrong.safetensors");
  RandomTensors tensors(1, DType::f32);
  tensors.add("up.weight", {10, 7});
  tensors.add("up.bias", {10});
  tensors.add("down.weihgt", {6, 10});
  tensors.add("down.bias", {6});
  tensors.write(path);
  Ledger ledger;
  CHECK(message_of([&] { (void)open<Mlp>(path, {.ledger = &ledger}); }) ==
        path + ": 2 of 4 weights do not fit the net\n"
               "  up.weight: expected [10, 6], got [10, 7] F32\n"
               "  down.weight: expected [6, 10], found no such tensor; the nearest is down.weihgt");
  CHECK(ledger.current() == BytesByCategory{});
}

TEST_CASE("An element type that is not for weights or not the configured one is refused") {
  TemporaryFolder folder;
  const std::string path = folder.file("model.safetensors");
  write_checkpoint<Linear<"fc", 2, 2>>(path, 1, DType::f16);
  static constexpr Config only_bf16{.weights = bf16};
  CHECK(message_of([&] { (void)open<Linear<"fc", 2, 2>, only_bf16>(path); }) ==
        path + ": 2 of 2 weights do not fit the net\n"
               "  fc.weight: expected BF16, got F16\n"
               "  fc.bias: expected BF16, got F16");
  const std::vector<std::int32_t> numbers(6);
  write_safetensors(path, std::vector<NamedTensor>{{"fc.weight", view(std::span(numbers).first(4), {2, 2})},
                                                   {"fc.bias", view(std::span(numbers).first(2), {2})}});
  CHECK(message_of([&] {
          (void)open<Linear<"fc", 2, 2>>(path);
        }).find("expected F32, F16 or BF16, got I32") != std::string::npos);
}

TEST_CASE("A prefix stands before every name of the net") {
  TemporaryFolder folder;
  const std::string path = folder.file("model.safetensors");
  write_checkpoint<Mlp>(path, 1, DType::f32, "bert.");
  CHECK_NOTHROW((void)open<Mlp>(path, {.prefix = "bert."}));
  CHECK_THROWS_AS((void)open<Mlp>(path), load_error);
}

TEST_CASE("Tensors that the net does not use are listed") {
  Fixture<Mlp> f;
  const auto model = open<Linear<"up", 6, 10>>(f.folder.file("model.safetensors"));
  CHECK(std::ranges::equal(model.unused_names(), std::vector<std::string_view>{"down.bias", "down.weight"}));
}

TEST_CASE("A model outlives its handle in a session") {
  Fixture<Mlp> f;
  auto handle =
      std::make_unique<Model<Mlp>>(open<Mlp>(f.folder.file("model.safetensors"), {.ledger = &f.ledger}));
  Session session(*handle);
  handle.reset();
  CHECK_NOTHROW((void)session(ramp({1, 6})));
}

TEST_CASE("A ledger and a budget in the configuration exclude each other") {
  Fixture<Mlp> f;
  static constexpr Config small{.budget = 1 * MiB};
  CHECK_THROWS_WITH_AS(
      (void)(open<Mlp, small>(f.folder.file("model.safetensors"), {.ledger = &f.ledger})),
      "open: expected either a ledger or a configuration with a budget, got both; set the ledger's budget",
      error);
}

// SPDX-License-Identifier: Apache-2.0
#include "support/files.hpp"
#include "support/lora_pairs.hpp"
#include "support/temporary_folder.hpp"

#include <tenon/adapters/extract.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <map>

using namespace tenon;
using namespace tenon::test;

namespace {

struct Values {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

/// Two checkpoints, of which the second differs from the first by known deltas.
struct Pair {
  TemporaryFolder folder{};
  Ledger ledger{};
  std::map<std::string, Values> base{};
  std::map<std::string, Values> tuned{};

  void add(const std::string& name, std::vector<std::int64_t> shape, const DoubleMatrix& delta) {
    Numbers numbers(base.size() + 100);
    Values values{std::move(shape), {}};
    for (std::size_t i = 0; i < delta.values.size(); ++i) values.values.push_back(numbers.next());
    base[name] = values;
    for (std::size_t i = 0; i < delta.values.size(); ++i)
      values.values[i] = static_cast<float>(static_cast<double>(values.values[i]) + delta.values[i]);
    tuned[name] = std::move(values);
  }
  Checkpoint write(const std::map<std::string, Values>& tensors, const std::string& name) {
    std::vector<NamedTensor> named;
    for (const auto& [key, value] : tensors)
      named.push_back({key, TensorView(value.values.data(), DType::f32, value.shape)});
    write_safetensors(folder.file(name), named);
    return Checkpoint::open(folder.file(name), ledger, Category::base_mapped);
  }
  Extracted extract(const ExtractOptions& options) {
    const Checkpoint before = write(base, "base.safetensors");
    const Checkpoint after = write(tuned, "tuned.safetensors");
    return tenon::extract(before, after, options);
  }
};

const LoraModule& module_of(const Extracted& made, std::string_view path) {
  for (const LoraModule& module : made.set.modules)
    if (module.path == path) return module;
  throw std::runtime_error("no such module");
}

} // namespace

// The checkpoints are float32 with values up to 1: base + delta is rounded to 2^-25 of 1 at each element, which the
// difference then has in it. Against deltas of about 1 that is 1e-7; the pair's own rounding adds as much.
constexpr double rounding = 1e-6;

TEST_CASE("A delta of low rank comes back from the difference of two checkpoints") {
  Pair pair;
  const LoraPair linear = random_pair(30, 20, 3, 1, 1);
  const LoraPair conv = random_pair(12, 4 * 3 * 3, 5, 1, 2);
  const LoraPair table = random_pair(50, 8, 2, 1, 3);
  pair.add("layer.0.q.weight", {30, 20}, delta_of(linear));
  pair.add("down.conv.weight", {12, 4, 3, 3}, delta_of(conv));
  pair.add("tokens.weight", {50, 8}, delta_of(table));
  pair.add("same.weight", {6, 6}, DoubleMatrix(6, 6));
  const Pattern tables[] = {Pattern("tokens")};
  for (const SvdMethod method : {SvdMethod::exact, SvdMethod::randomised}) {
    const Extracted made = pair.extract({.svd = {.rank = {.most = 3}, .method = method},
                                         .of_convolutions = RankRule{.most = 5},
                                         .embeddings = tables});
    REQUIRE(made.set.modules.size() == 3);
    CHECK(made.unchanged == 1);
    CHECK(made.left_out.empty());
    CHECK(relative_difference(delta_of(module_of(made, "layer.0.q").pair), delta_of(linear)) < rounding);
    const LoraModule& kernel = module_of(made, "down.conv");
    CHECK(kernel.target == LoraTarget::convolution);
    CHECK(kernel.kernel == std::vector<std::int64_t>{3, 3});
    CHECK(kernel.pair.rank == 5);
    CHECK(relative_difference(delta_of(kernel.pair), delta_of(conv)) < rounding);
    CHECK(module_of(made, "tokens").target == LoraTarget::embedding);
    CHECK(relative_difference(delta_of(module_of(made, "tokens").pair), delta_of(table)) < rounding);
    for (const ExtractedModule& module : made.modules) CHECK(module.error < rounding);
  }
}

TEST_CASE("A share of the energy finds the rank that the difference has") {
  Pair pair;
  pair.add("q.weight", {30, 20}, delta_of(random_pair(30, 20, 3, 1, 1)));
  const Extracted made = pair.extract({.svd = {.rank = {.most = 16, .energy = 0.999999}}});
  CHECK(made.modules[0].kept.rank == 3);
  CHECK(made.modules[0].kept.energy >= 0.999999);
}

TEST_CASE("Small tensors are whole differences if asked for, and named if not") {
  Pair pair;
  DoubleMatrix delta(1, 5);
  delta.values = {1, 0, -0.5, 0.25, 2};
  pair.add("norm.weight", {5}, delta);
  pair.add("norm.bias", {5}, delta);
  const Extracted without = pair.extract({});
  CHECK(without.set.diffs.empty());
  REQUIRE(without.left_out.size() == 2);
  CHECK(without.left_out[0].name == "norm.bias");
  CHECK(without.left_out[0].why == "one dimension: taken as a whole difference if asked for");
  const Extracted with = pair.extract({.takes_small_tensors = true});
  REQUIRE(with.set.diffs.size() == 2);
  for (const DiffTensor& diff : with.set.diffs)
    for (std::size_t i = 0; i < 5; ++i)
      CHECK(std::abs(static_cast<double>(diff.values.values()[i]) - delta.values[i]) < rounding);
}

TEST_CASE("What has no place in a LoRA is listed with the reason") {
  Pair pair;
  pair.add("table", {4, 4}, delta_of(random_pair(4, 4, 1, 1, 1)));
  pair.add("shape.weight", {4, 4}, delta_of(random_pair(4, 4, 1, 1, 1)));
  pair.add("only_base.weight", {4, 4}, DoubleMatrix(4, 4));
  pair.tuned["shape.weight"].shape = {2, 8};
  pair.tuned.erase("only_base.weight");
  pair.tuned["only_tuned.weight"] = pair.tuned["table"];
  const Extracted made = pair.extract({});
  CHECK(made.set.modules.empty());
  REQUIRE(made.left_out.size() == 4);
  CHECK(made.left_out[0].why == concat(pair.folder.file("base.safetensors"), " has no such tensor"));
  CHECK(made.left_out[1].why == "expected the base's shape [4, 4], got [2, 8]");
  CHECK(made.left_out[2].why == "expected a module's weight, named .weight, got another parameter");
  CHECK(made.left_out[3].why == concat(pair.folder.file("tuned.safetensors"), " has no such tensor"));
}

TEST_CASE("Modules can be chosen, small differences passed over, and the work stopped") {
  Pair pair;
  pair.add("a.q.weight", {6, 5}, delta_of(random_pair(6, 5, 1, 1, 1)));
  pair.add("a.k.weight", {6, 5}, delta_of(random_pair(6, 5, 1, 0.001, 1)));
  const Pattern only[] = {Pattern("q")};
  CHECK(pair.extract({.only = only}).set.modules.size() == 1);
  CHECK(pair.extract({.least_difference = 0.01}).set.modules.size() == 1);
  CHECK(pair.extract({.least_difference = 0.01}).unchanged == 1);
  int calls = 0;
  const auto progress = [&](const Progress& p) {
    CHECK(p.bytes_total == 240);
    return ++calls < 1;
  };
  CHECK_THROWS_AS((void)pair.extract({.progress = progress}), error);
  CHECK(calls == 1);
}

TEST_CASE("A difference that is not finite is refused by name") {
  Pair pair;
  pair.add("a.q.weight", {6, 5}, DoubleMatrix(6, 5));
  pair.tuned["a.q.weight"].values[3] = NAN;
  CHECK_THROWS_WITH_AS((void)pair.extract({}),
                       concat(pair.folder.file("tuned.safetensors"),
                              ": a.q.weight: singular values: expected finite ",
                              "numbers, got NaN or infinity among the factors")
                           .c_str(),
                       error);
}

TEST_CASE("A tensor's difference is made in tiles: no more is held than is stated") {
  Pair pair;
  pair.add("q.weight", {600, 500}, delta_of(random_pair(600, 500, 3, 1, 1)));
  const ToLoraOptions svd{.rank = {.most = 3}, .method = SvdMethod::randomised, .ledger = &pair.ledger};
  const Extracted made = pair.extract({.svd = svd});
  const std::int64_t tile = RowSource{.rows = 600, .cols = 500}.tile_rows() * 500 * 4; // of the base's rows
  CHECK(pair.ledger.peak()[Category::scratch] == to_lora_bytes(svd, 600, 500) + tile);
  CHECK(relative_difference(delta_of(made.set.modules[0].pair), delta_of(random_pair(600, 500, 3, 1, 1))) <
        rounding);
}

// SPDX-License-Identifier: Apache-2.0
#include "support/file_bytes.hpp"
#include "support/lora_pairs.hpp"

#include <tenon/adapters/combine_sets.hpp>
#include <tenon/weights/safetensors.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

using namespace tenon;
using namespace tenon::test;

namespace {

const std::string goldens = TENON_TEST_DATA "/goldens/combination/";

std::vector<float> floats(const TensorView& view) {
  std::vector<float> out(static_cast<std::size_t>(view.size()));
  decode(view.dtype, view.data, view.size(), out.data());
  return out;
}

template <class T>
std::vector<T> transposed(const std::vector<T>& from, std::int64_t rows) {
  const auto cols = std::ssize(from) / rows;
  std::vector<T> out(from.size());
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j)
      out[static_cast<std::size_t>(j * rows + i)] = from[static_cast<std::size_t>(i * cols + j)];
  return out;
}

/// A line of cases.tsv.
struct Case {
  std::string number, adapters;
  CombineOptions options;
  std::vector<double> weights;
};

std::vector<Case> read_cases() {
  std::istringstream text(read_file(goldens + "cases.tsv"));
  std::vector<Case> out;
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream fields(line);
    Case c;
    std::string method, weights, density, majority, rank;
    fields >> c.number >> method >> c.adapters >> weights >> density >> majority >> rank;
    c.options.method = combine_method_from_name(method).value();
    c.options.density = std::stod(density);
    c.options.election = majority == "total" ? SignElection::total : SignElection::frequency;
    c.options.svd.rank.most = std::stoll(rank);
    std::istringstream list(weights);
    for (std::string weight; std::getline(list, weight, ',');) c.weights.push_back(std::stod(weight));
    out.push_back(std::move(c));
  }
  return out;
}

struct Goldens {
  SafetensorsFile file{goldens + "combination_goldens.safetensors", process_ledger(), Category::base_owned};

  /// A module of one adapter as PEFT holds it; no value if the adapter leaves it alone.
  std::optional<LoraPair> pair(char adapter, const std::string& path) const {
    const std::string key = concat(std::string(1, adapter), "/", path);
    const auto a = file.find(key + ".A");
    if (!a) return std::nullopt;
    const TensorView b = file.at(key + ".B");
    LoraPair out{.rank = a->extent(0),
                 .scale = *reinterpret_cast<const double*>(file.at(key + ".scale").data)};
    if (path == "emb") { // the table's side is A there
      out.out = a->extent(1);
      out.in = b.extent(0);
      out.a = transposed(floats(b), out.in);
      out.b = transposed(floats(*a), out.rank);
    } else {
      out.out = b.extent(0);
      out.in = a->size() / out.rank;
      out.a = floats(*a);
      out.b = floats(b);
    }
    return out;
  }
  /// DARE's mask, empty if the case has none.
  std::vector<std::uint8_t> mask(const Case& c, const std::string& path, const char* part,
                                 char adapter) const {
    const auto view = file.find(concat(c.number, "/", path, ".keep_", part, ".", std::string(1, adapter)));
    if (!view) return {};
    const auto* const first = reinterpret_cast<const std::uint8_t*>(view->data);
    std::vector<std::uint8_t> out(first, first + view->size());
    return path == "emb" && part != std::string("delta") ? transposed(out, view->extent(0)) : out;
  }
};

CombineTerm term(const LoraPair& pair, double weight = 1) { return {.pair = &pair, .weight = weight}; }

DoubleMatrix sum(const DoubleMatrix& a, const DoubleMatrix& b) {
  DoubleMatrix out = a;
  for (std::size_t i = 0; i < out.values.size(); ++i) out.values[i] += b.values[i];
  return out;
}

} // namespace

// PEFT computes in float64 but rounds its weights to float32; we round each element of the result to float
// once: a few units of 2^-24 on each factor, summed over at most 13 ranks. After an SVD each factor is rounded too.
constexpr double golden_tolerance = 1e-6;

TEST_CASE("Each of PEFT's combinations gives PEFT's delta") {
  const Goldens golden;
  int compared = 0;
  for (Case& c : read_cases())
    for (const std::string path : {"fc", "conv", "emb"}) {
      const auto expected = golden.file.find(concat(c.number, "/", path));
      if (!expected) continue;
      CAPTURE(c.number);
      CAPTURE(path);
      std::vector<LoraPair> pairs;
      std::vector<std::vector<std::uint8_t>> masks;
      std::vector<CombineTerm> terms;
      pairs.reserve(4);
      masks.reserve(12);
      for (std::size_t i = 0; i < c.adapters.size(); ++i) {
        const auto pair = golden.pair(c.adapters[i], path);
        if (!pair) continue;
        pairs.push_back(*pair);
        const bool turned = path == "emb";
        for (const char* part : {turned ? "B" : "A", turned ? "A" : "B", "delta"})
          masks.push_back(golden.mask(c, path, part, c.adapters[i]));
        const auto mask = [&](std::size_t at) {
          return std::span<const std::uint8_t>(masks[masks.size() - 3 + at]);
        };
        terms.push_back({&pairs.back(), c.weights[i], mask(0), mask(1), mask(2)});
      }
      c.options.sign_side = path == "emb" ? SignSide::b : SignSide::a;
      const MadeLora made = combine(terms, c.options);
      DoubleMatrix reference(made.pair.out, made.pair.in);
      REQUIRE(expected->size() == std::ssize(reference.values));
      std::copy_n(reinterpret_cast<const double*>(expected->data), expected->size(),
                  reference.values.begin());
      CHECK(relative_difference(delta_of(made.pair), reference) < golden_tolerance);
      ++compared;
    }
  CHECK(compared == 31 * 3);
}

TEST_CASE("One adapter at weight 1 is itself, under every method") {
  for (const CombineRecipe& recipe : combine_recipes) {
    CAPTURE(recipe.name);
    const CombineMethod method = combine_method_from_name(recipe.name).value();
    const LoraPair pair = random_pair(9, 13, 4, 0.37, 11, true);
    const CombineTerm one[] = {term(pair)};
    const MadeLora made = combine(one, {.method = method, .svd = {.rank = {.most = 0}}});
    CHECK(made.pair.rank == 4);
    CHECK(made.pair.bias == pair.bias);
    if (recipe.on_deltas) { // through an SVD, whose factors are rounded to float
      CHECK(relative_difference(delta_of(made.pair), delta_of(pair)) < 4 * 0x1p-23);
      CHECK(made.error < 1e-6);
    } else { // not one bit differs
      CHECK(made.pair.a == pair.a);
      CHECK(made.pair.b == pair.b);
      CHECK(made.pair.scale == pair.scale);
    }
  }
}

TEST_CASE("The concatenation is the weighted sum, of any ranks and scales") {
  const LoraPair a = random_pair(9, 13, 4, 2, 1, true);
  const LoraPair b = random_pair(9, 13, 7, 3 / std::sqrt(7.0), 2);
  const LoraPair c = random_pair(9, 13, 1, 0.5, 3, true);
  const CombineTerm terms[] = {term(a, 0.3), term(b, -1.5), term(c)};
  const MadeLora made = combine(terms, {.method = CombineMethod::cat});
  const DoubleMatrix expected = sum(sum(delta_of(a, 0.3), delta_of(b, -1.5)), delta_of(c));
  CHECK(made.pair.rank == 12);
  CHECK(made.error == 0);
  CHECK(relative_difference(delta_of(made.pair), expected) < 0x1p-22); // one rounding of each element of A
  for (std::size_t i = 0; i < 9; ++i)
    CHECK(made.pair.bias[i] == doctest::Approx(0.3F * a.bias[i] + c.bias[i]).epsilon(1e-6));
  const MadeLora full = combine(terms, {.method = CombineMethod::svd, .svd = {.rank = {.most = 12}}});
  CHECK(full.pair.rank == 9); // no delta of 9 rows has more
  CHECK(relative_difference(delta_of(full.pair), expected) < 1e-6);
  CHECK(full.error < 1e-6);
}

TEST_CASE("Scales that are all the same leave the factors as they are") {
  const LoraPair a = random_pair(5, 6, 2, 2, 1);
  const LoraPair b = random_pair(5, 6, 3, 1, 2);
  const CombineTerm terms[] = {term(a, 0.25), term(b, 0.5)};
  const LoraPair made = combine(terms, {.method = CombineMethod::cat}).pair;
  CHECK(made.scale == 0.5);
  CHECK(std::equal(a.a.begin(), a.a.end(), made.a.begin()));
  CHECK(std::equal(b.a.begin(), b.a.end(), made.a.begin() + 12));
}

TEST_CASE("An adapter less itself is nothing") {
  const LoraPair pair = random_pair(9, 13, 4, 0.37, 11);
  const CombineTerm terms[] = {term(pair), term(pair, -1)};
  for (const CombineMethod method :
       {CombineMethod::cat, CombineMethod::svd, CombineMethod::magnitude_prune_svd}) {
    const MadeLora made = combine(terms, {.method = method, .density = 0.5, .svd = {.rank = {.most = 4}}});
    const DoubleMatrix delta = delta_of(made.pair);
    for (const double x : delta.values) CHECK(std::abs(x) < 1e-12);
  }
}

TEST_CASE("The largest elements are kept, as many as the density says, the first of equal ones") {
  const std::vector<float> values{3, -1, 1, -4, 1, 0, 1};
  CHECK(keep_largest(values, 0.3) == std::vector<std::uint8_t>{1, 0, 0, 1, 0, 0, 0});
  CHECK(keep_largest(values, 0.6) == std::vector<std::uint8_t>{1, 1, 1, 1, 0, 0, 0});
  CHECK(keep_largest(values, 1) == std::vector<std::uint8_t>(7, 1));
  CHECK(keep_largest(values, 0.1) == std::vector<std::uint8_t>(7, 0));
  CHECK(keep_largest(std::vector<float>(4, 2.0f), 0.5) == std::vector<std::uint8_t>{1, 1, 0, 0});
}

TEST_CASE("A drawn mask keeps about its density, and is the same for the same seed") {
  const auto mask = keep_at_random(10000, 0.3, 5);
  const auto kept = std::count(mask.begin(), mask.end(), 1);
  CHECK(std::abs(static_cast<double>(kept) - 3000) <
        5 * std::sqrt(10000 * 0.3 * 0.7)); // five standard deviations
  CHECK(keep_at_random(10000, 0.3, 5) == mask);
  CHECK(keep_at_random(10000, 0.3, 6) != mask);
  const LoraPair a = random_pair(9, 13, 4, 2, 1);
  const LoraPair b = random_pair(9, 13, 4, 1, 2);
  const CombineTerm terms[] = {term(a), term(b)};
  const CombineOptions options{.method = CombineMethod::dare_linear, .density = 0.5, .seed = 3};
  CHECK(combine(terms, options).pair.a == combine(terms, options).pair.a);
  CombineOptions other = options;
  other.seed = 4;
  CHECK(combine(terms, options).pair.a != combine(terms, other).pair.a);
}

TEST_CASE("Elements that disagree with the elected sign are left out, and the others averaged") {
  const std::vector<float> a{1, 2, -3, 0};
  const std::vector<float> b{3, -1, -1, 0};
  const std::vector<float> c{-2, -1, 0, 5};
  std::vector<float> out(4);
  const TaskTensor tasks[] = {{.values = a}, {.values = b, .weight = 2}, {.values = c, .weight = 10}};
  merge_tasks(tasks, SignElection::total, out);
  CHECK(out == std::vector<float>{(1 + 6) / 2.0F, 2, (-3 - 2) / 2.0F, 50}); // 2 - 1 - 1 is no majority: +
  merge_tasks(tasks, SignElection::frequency, out);
  CHECK(out == std::vector<float>{(1 + 6) / 2.0F, (-2 - 10) / 2.0F, (-3 - 2) / 2.0F, 50});
  merge_tasks(tasks, SignElection::none, out);
  CHECK(out == std::vector<float>{-13, -10, -5, 50});
}

TEST_CASE("Terms that do not fit each other are refused in full sentences") {
  const LoraPair a = random_pair(9, 13, 4, 2, 1);
  const LoraPair narrow = random_pair(9, 12, 4, 1, 2);
  const LoraPair thin = random_pair(9, 13, 2, 1, 2);
  const CombineTerm shapes[] = {term(a), term(narrow)};
  const CombineTerm ranks[] = {term(a), term(thin)};
  CHECK_THROWS_WITH_AS((void)combine({}, {}), "combine: expected at least one adapter, got none", error);
  CHECK_THROWS_WITH_AS((void)combine(shapes, {}),
                       "combine: expected a delta [9, 13] of every adapter, got [9, 12]", shape_error);
  CHECK_THROWS_WITH_AS(
      (void)combine(ranks, {.method = CombineMethod::ties, .density = 0.5}),
      "combine: expected rank 4 of every adapter, since ties works on A and B, got 2; use cat, svd "
      "or a method that ends in _svd",
      shape_error);
  CHECK_THROWS_WITH_AS((void)combine(ranks, {.method = CombineMethod::ties_svd, .density = 0}),
                       "density: expected a share above 0 and up to 1, got 0.000000", error);
  const std::vector<std::uint8_t> mask(3);
  CombineTerm masked[] = {term(a), term(a)};
  masked[1].keep_a = mask;
  CHECK_THROWS_WITH_AS((void)combine(masked, {.method = CombineMethod::dare_ties, .density = 0.5}),
                       "combine: expected a mask of 52 elements, got 3", error);
}

TEST_CASE("Whole adapters are combined module by module, those of one only among them") {
  LoraSet first;
  first.modules.push_back({.path = "fc1", .pair = random_pair(9, 13, 4, 2, 1)});
  first.modules.push_back({.path = "fc2", .pair = random_pair(5, 9, 4, 2, 2)});
  first.diffs.push_back({"norm.weight", Tensor({3}, {1, 2, 3})});
  LoraSet second;
  second.modules.push_back({.path = "fc2", .pair = random_pair(5, 9, 2, 1, 3)});
  second.modules.push_back({.path = "fc3", .pair = random_pair(2, 5, 2, 1, 4)});
  second.diffs.push_back({"norm.weight", Tensor({3}, {10, 10, 10})});
  const WeightedSet sets[] = {{&first, 1}, {&second, -0.5}};
  const CombinedSet made = combine_sets(sets, {.method = CombineMethod::cat});
  REQUIRE(made.set.modules.size() == 3);
  CHECK(made.set.modules[0].pair.a == first.modules[0].pair.a);
  CHECK(made.set.modules[1].pair.rank == 6);
  CHECK(relative_difference(delta_of(made.set.modules[1].pair),
                            sum(delta_of(first.modules[1].pair), delta_of(second.modules[0].pair, -0.5))) <
        0x1p-22);
  CHECK(made.set.modules[2].path == "fc3");
  CHECK(made.set.modules[2].pair.scale == -0.5);
  CHECK(made.set.diffs[0].values == Tensor({3}, {-4, -3, -2}));

  const WeightedSet alone[] = {{&first, 1}}; // nothing is pruned of a single adapter, as in PEFT
  const CombinedSet same = combine_sets(alone, {.method = CombineMethod::ties_svd, .density = 0.1});
  CHECK(same.set.modules[0].pair.b == first.modules[0].pair.b);

  second.modules[0].pair = random_pair(5, 8, 2, 1, 3);
  CHECK_THROWS_WITH_AS((void)combine_sets(sets, {}),
                       "fc2: combine: expected a delta [5, 9] of every adapter, got [5, 8]", shape_error);
  second.modules[0].target = LoraTarget::embedding;
  CHECK_THROWS_WITH_AS((void)combine_sets(sets, {}),
                       "combine: fc2: expected one kind of module in every adapter, got two", error);
}

// SPDX-License-Identifier: Apache-2.0
#include "layers/one_layer.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace tenon;
using namespace tenon::test;

namespace {

/// What an attention computes, one number at a time, from q, k and v as a net gives them back.
struct Expected {
  Heads heads{};
  bool is_causal = false;
  double scale = 1;
  std::vector<double> bias{}; ///< [buckets, heads]; `bucket` says which
  std::int64_t (*bucket)(std::int64_t distance) = nullptr;
  std::vector<float> mask{}; ///< [batch, keys]

  void check(const Tensor& y, const Tensor& q, const Tensor& k, const Tensor& v) const {
    const std::int64_t kv_heads = heads.shared == 0 ? heads.count : heads.shared;
    REQUIRE(std::ranges::equal(y.shape(), q.shape()));
    REQUIRE(q.shape()[2] == heads.count * heads.width);
    REQUIRE(k.shape()[2] == kv_heads * heads.width);
    for (std::int64_t row = 0; row < q.shape()[0] * q.shape()[1]; ++row)
      for (std::int64_t head = 0; head < heads.count; ++head)
        check_row(y, q, k, v, row, head, head / (heads.count / kv_heads));
  }

 private:
  void check_row(const Tensor& y, const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t row,
                 std::int64_t head, std::int64_t kv_head) const {
    const std::int64_t place = row % q.shape()[1];
    const std::int64_t keys = k.shape()[1];
    const std::int64_t first_key = row / q.shape()[1] * keys;
    const auto at = [&](const Tensor& x, std::int64_t of_row, std::int64_t of_head, std::int64_t d) {
      return static_cast<double>(x.row(of_row)[static_cast<std::size_t>(of_head * heads.width + d)]);
    };
    std::vector<double> weight(static_cast<std::size_t>(keys));
    double sum = 0;
    for (std::int64_t key = 0; key < keys; ++key) {
      const auto s = static_cast<std::size_t>(key);
      if ((is_causal && key > place) || (!mask.empty() && mask[static_cast<std::size_t>(first_key) + s] == 0))
        continue;
      double score = 0;
      for (std::int64_t d = 0; d < heads.width; ++d)
        score += scale * at(q, row, head, d) * at(k, first_key + key, kv_head, d);
      if (!bias.empty()) score += bias[static_cast<std::size_t>(bucket(key - place) * heads.count + head)];
      sum += weight[s] = std::exp(score);
    }
    for (std::int64_t d = 0; d < heads.width; ++d) {
      double expected = 0;
      for (std::int64_t key = 0; key < keys; ++key)
        expected += weight[static_cast<std::size_t>(key)] / sum * at(v, first_key + key, kv_head, d);
      CHECK(std::abs(at(y, row, head, d) - expected) < few_ulps);
    }
  }
};

constexpr Heads four_of_three{.count = 4, .width = 3, .shared = 2};

/// Self attention with q, k and v given back; `Attend` is an Attention over `four_of_three`.
template <class Attend>
using Open =
    Graph<Inputs<"x">, Let<"q", Linear<"q", 5, 12>, "x">, Let<"k", Linear<"k", 5, 6>, "x">,
          Let<"v", Linear<"v", 5, 6>, "x">, Let<"y", Attend, "q", "k", "v">, Outputs<"y", "q", "k", "v">>;

template <class Attend>
void check_open(Expected expected) {
  OneLayer<Open<Attend>> layer;
  if (expected.bucket != nullptr) expected.bias = layer.weight(6);
  const auto [y, q, k, v] = layer.session(wave({2, 7, 5}));
  expected.heads = four_of_three;
  expected.check(y, q, k, v);
}

/// Eight buckets up to 6 in both directions: 0, 1, then 2-3 and 4 or more, whose limits grow by the root of 3.
std::int64_t both_ways(std::int64_t distance) {
  const std::int64_t size = std::abs(distance);
  return (distance > 0 ? 4 : 0) + (size < 2 ? size : size < 4 ? 2 : 3);
}
/// Eight buckets up to 6, backwards: 0 ... 3, then 4 and the rest, whose limits grow by the fourth root of 1.5: 4, 4.43,
/// 4.9, 5.42.
std::int64_t backwards(std::int64_t distance) {
  constexpr std::int64_t buckets[] = {0, 1, 2, 3, 4, 6, 7};
  return distance > 0 ? 0 : buckets[-distance];
}

// A user's op that reads a sequence of its own.
void read_context_step(const StepContext& context) {
  std::ranges::copy(context.inputs[0].values(), context.output.values().begin());
}
template <std::int64_t D>
struct ReadContext {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::of({batch_dim, context_dim, fixed(D)}); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "ReadContext",
                         .run = &read_context_step,
                         .inputs = {wires[0]},
                         .output = builder.shape(wires[0])});
  }
};

} // namespace

TEST_CASE("Self-attention is the softmax of scaled products over the tokens that the mask keeps") {
  constexpr std::size_t tokens = 3;
  constexpr std::size_t width = 4;
  constexpr std::size_t heads = 2;
  using Net = Graph<Inputs<"x", "mask">, Let<"y", SelfAttention<"a", 4, 2>, "x", "mask">, Outputs<"y">>;
  OneLayer<Net> layer;
  const Tensor x = wave({1, tokens, width});
  const Tensor mask({1, tokens}, {1, 0, 1});
  const Tensor y = layer.session(x, mask);

  const auto project = [&](std::size_t weight) {
    const std::vector<double> w = layer.weight(weight);
    const std::vector<double> b = layer.weight(weight + 1);
    std::vector<double> out(tokens * width);
    for (std::size_t t = 0; t < tokens; ++t)
      for (std::size_t o = 0; o < width; ++o) {
        out[t * width + o] = b[o];
        for (std::size_t i = 0; i < width; ++i)
          out[t * width + o] += static_cast<double>(x.values()[t * width + i]) * w[o * width + i];
      }
    return out;
  };
  const std::vector<double> q = project(0);
  const std::vector<double> k = project(2);
  const std::vector<double> v = project(4);
  constexpr std::size_t head_width = width / heads;
  for (std::size_t h = 0; h < heads; ++h)
    for (std::size_t t = 0; t < tokens; ++t) {
      std::vector<double> weight(tokens);
      double sum = 0;
      for (std::size_t s = 0; s < tokens; ++s) {
        double score = 0;
        for (std::size_t d = 0; d < head_width; ++d)
          score += q[t * width + h * head_width + d] * k[s * width + h * head_width + d];
        weight[s] = s == 1 ? 0 : std::exp(score / std::sqrt(2.0));
        sum += weight[s];
      }
      for (std::size_t d = 0; d < head_width; ++d) {
        double expected = 0;
        for (std::size_t s = 0; s < tokens; ++s)
          expected += weight[s] / sum * v[s * width + h * head_width + d];
        CHECK(std::abs(static_cast<double>(y.values()[t * width + h * head_width + d]) - expected) <
              few_ulps);
      }
    }
}

TEST_CASE("Without a mask every token is read") {
  OneLayer<Sequential<SelfAttention<"a", 4, 2>>> layer;
  using Masked = Graph<Inputs<"x", "mask">, Let<"y", SelfAttention<"a", 4, 2>, "x", "mask">, Outputs<"y">>;
  const auto model = open<Masked>(layer.folder.file("m.safetensors"));
  Session masked(model);
  const Tensor x = wave({2, 3, 4});
  CHECK(layer.session(x) == masked(x, Tensor({2, 3}, {1, 1, 1, 1, 1, 1})));
}

TEST_CASE("Scratch grows with tokens and not with their square") {
  OneLayer<Sequential<SelfAttention<"a", 4, 2>>> layer;
  Session few(layer.model, {.tokens = 1024});
  Session many(layer.model, {.tokens = 8192});
  CHECK(many.scratch_bytes() <= 8 * few.scratch_bytes());
  CHECK(many.activation_bytes() == 8 * few.activation_bytes());
}

TEST_CASE("Attention of grouped heads: scaled or not, causal or not") {
  const double root = 1 / std::sqrt(3.0);
  check_open<Attention<four_of_three>>({.scale = root});
  check_open<Attention<four_of_three, Unscaled>>({.scale = 1});
  check_open<Attention<four_of_three, Causal>>({.is_causal = true, .scale = root});
  check_open<Attention<four_of_three, Unscaled, Causal>>({.is_causal = true, .scale = 1});
}

TEST_CASE("Attention adds a number for each head and distance") {
  using Biased = Attention<four_of_three, RelativeBias<"distances", 8, 6>>;
  static_assert(weights<Open<Biased>>.back().path == "distances");
  static_assert(weights<Open<Biased>>.back().shape[0] == 8 && weights<Open<Biased>>.back().shape[1] == 4);
  check_open<Biased>({.scale = 1 / std::sqrt(3.0), .bucket = &both_ways});
  check_open<Attention<four_of_three, Unscaled, RelativeBias<"distances", 8, 6>>>(
      {.scale = 1, .bucket = &both_ways});
  check_open<Attention<four_of_three, Causal, RelativeBias<"distances", 8, 6>>>(
      {.is_causal = true, .scale = 1 / std::sqrt(3.0), .bucket = &backwards});
}

TEST_CASE("Attentions that share their distances ask for one table") {
  using Attend = Attention<Heads{2, 3}, Unscaled, SharedRelativeBias<"layer.0.distances", 8, 6>>;
  using Block = Graph<Inputs<"x">, Let<"q", Linear<"q", 6, 6>, "x">, Let<"k", Linear<"k", 6, 6>, "x">,
                      Let<"v", Linear<"v", 6, 6>, "x">, Let<"y", Attend, "q", "k", "v">, Outputs<"y">>;
  using Net = Repeat<"layer", 3, Block>;
  static_assert(weight_count<Net> == 3 * 6 + 1);
  // The same block with a table of its own, at the place of the shared one, for one layer at a time.
  using Own = Attention<Heads{2, 3}, Unscaled, RelativeBias<"distances", 8, 6>>;
  using One = Graph<Inputs<"x">, Let<"q", Linear<"q", 6, 6>, "x">, Let<"k", Linear<"k", 6, 6>, "x">,
                    Let<"v", Linear<"v", 6, 6>, "x">, Let<"y", Own, "q", "k", "v">, Outputs<"y">>;
  OneLayer<Net> layer;
  const auto first = open<One>(layer.folder.file("m.safetensors"), {.prefix = "layer.0."});
  const Tensor x = wave({2, 4, 6});
  const auto of_one = open<Repeat<"layer", 1, Block>>(layer.folder.file("m.safetensors"));
  CHECK(Session(of_one)(x) == Session(first)(x));

  // All three by hand: from q, k and v of each layer, whose table is always that of the first
  const std::vector<double> table = [&] {
    for (std::size_t w = 0; w < program_of<Net>().weights.size(); ++w)
      if (weights<Net>[w].path == "layer.0.distances")
        return layer.weight(static_cast<std::size_t>(program_of<Net>().weights[w].base));
    return std::vector<double>{};
  }();
  REQUIRE(table.size() == 16);
  using Shown = Graph<Inputs<"x">, Let<"q", Linear<"q", 6, 6>, "x">, Let<"k", Linear<"k", 6, 6>, "x">,
                      Let<"v", Linear<"v", 6, 6>, "x">, Outputs<"q", "k", "v">>;
  Tensor before = x;
  for (const std::int64_t count : {1, 2, 3}) {
    const auto shown = open<Shown>(layer.folder.file("m.safetensors"),
                                   {.prefix = "layer." + std::to_string(count - 1) + "."});
    const auto [q, k, v] = Session(shown)(before);
    const auto run = [&]<std::int64_t N>() {
      const auto some = open<Repeat<"layer", N, Block>>(layer.folder.file("m.safetensors"));
      return Session(some)(x);
    };
    const Tensor after = count == 1   ? run.operator()<1>()
                         : count == 2 ? run.operator()<2>()
                                      : run.operator()<3>();
    const Expected expected{.heads = {2, 3}, .scale = 1, .bias = table, .bucket = &both_ways};
    expected.check(after, q, k, v);
    if (count == 3) CHECK(layer.session(x) == after);
    before = after;
  }
}

TEST_CASE("Queries read the keys of another sequence, whose length is its own") {
  using Net =
      Graph<Inputs<"x", "context">, Let<"q", Linear<"q", 5, 12>, "x">, Let<"seen", ReadContext<4>, "context">,
            Let<"k", Linear<"k", 4, 6>, "seen">, Let<"v", Linear<"v", 4, 6>, "seen">,
            Let<"y", Attention<four_of_three>, "q", "k", "v">, Outputs<"y", "q", "k", "v">>;
  static_assert(output_shape<Net> == Shape::of({batch_dim, tokens_dim, fixed(12)}));
  OneLayer<Net> layer;
  const Expected expected{.heads = four_of_three, .scale = 1 / std::sqrt(3.0)};
  for (const std::int64_t context : {1, 3, 9}) {
    const auto [y, q, k, v] = layer.session(wave({2, 6, 5}), wave({2, context, 4}));
    CHECK(k.shape()[1] == context);
    expected.check(y, q, k, v);
  }
  CHECK_THROWS_WITH_AS(
      (void)layer.session(wave({2, 6, 5}), wave({3, 4, 4})),
      "input context: expected [batch, context, 4] F32, got [3, 4, 4] F32; another input has "
      "batch = 2",
      shape_error);
}

TEST_CASE("A mask of the other sequence says which of its keys are read") {
  using Net = Graph<Inputs<"x", "context", "mask">, Let<"q", Linear<"q", 5, 12>, "x">,
                    Let<"seen", ReadContext<4>, "context">, Let<"k", Linear<"k", 4, 6>, "seen">,
                    Let<"v", Linear<"v", 4, 6>, "seen">,
                    Let<"y", Attention<four_of_three, OverContext, Unscaled>, "q", "k", "v", "mask">,
                    Outputs<"y", "q", "k", "v">>;
  OneLayer<Net> layer;
  const Tensor mask({2, 4}, {1, 0, 1, 1, 0, 0, 1, 0});
  const auto [y, q, k, v] = layer.session(wave({2, 6, 5}), wave({2, 4, 4}), mask);
  const Expected expected{
      .heads = four_of_three, .scale = 1, .mask = {mask.values().begin(), mask.values().end()}};
  expected.check(y, q, k, v);
}

TEST_CASE("Only a causal attention keeps something from call to call") {
  static_assert(program_of<Open<Attention<four_of_three>>>().states.empty());
  constexpr const Program& causal = program_of<Open<Attention<four_of_three, Causal>>>();
  static_assert(causal.states.size() == 1 && causal.states[0].width == 2 * 6);
  static_assert(program_of<Open<Attention<four_of_three, Unscaled, Causal>>>().state_count == 1);
}

// SPDX-License-Identifier: Apache-2.0
// What a cache of keys and values promises, on small decoders with random weights. That it gives what transformers'
// gives is tested with the models.
#include "session/fixture.hpp"
#include "support/allocation_probe.hpp"

#include <doctest/doctest.h>

#include <array>
#include <optional>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

/// Two heads of four share keys and values of four: 8 floats of each token are kept in each layer.
template <class Attend>
using Layer = Graph<Inputs<"x">, Let<"q_flat", Linear<"q", 8, 8>, "x">, Let<"k_flat", Linear<"k", 8, 4>, "x">,
                    Let<"v", Linear<"v", 8, 4>, "x">, Let<"q", Rotary<8, 4>, "q_flat">,
                    Let<"k", Rotary<4, 4>, "k_flat">, Let<"heads", Attend, "q", "k", "v">,
                    Let<"out", Linear<"o", 8, 8>, "heads">, Let<"y", Add, "x", "out">, Outputs<"y">>;

constexpr Heads two_heads{.count = 2, .width = 4, .shared = 1};
using Plain = Attention<two_heads, Causal>;
using Biased = Attention<two_heads, Causal, Unscaled, RelativeBias<"distances", 8, 12>>;

/// Hidden states of all tokens.
template <class Attend, std::int64_t Layers>
using Body = Sequential<Embedding<"words", 11, 8>, AddPositions<"positions", 40, 8>,
                        Repeat<"layer", Layers, Layer<Attend>>>;
using Decoder = Sequential<Body<Plain, 3>, Linear<"head", 8, 11>>;

/// The hidden state of the first token with id 7: a forward pass that may fail at its end.
using AtSeven =
    Graph<Inputs<"ids">, Let<"h", Body<Plain, 2>, "ids">, Let<"y", TokenAt<8, 7>, "h", "ids">, Outputs<"y">>;

constexpr std::array<std::int32_t, 20> text{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4};

TensorView ids(std::size_t first, std::size_t count) {
  return view(std::span(text).subspan(first, count), {1, static_cast<std::int64_t>(count)});
}

std::vector<float> values_of(const TensorView& y) {
  const auto* first = reinterpret_cast<const float*>(y.data);
  return {first, first + y.size()};
}

/// Kernels for few rows add in another order than those for many.
constexpr double another_order = 1e-5;

} // namespace

template <class Net>
void check_parts() {
  Fixture<Net> f;
  Session session(f.model);
  const Tensor whole = session(ids(0, 20));
  const auto width = static_cast<std::size_t>(whole.shape().back());
  KvCache cache(session, 20);
  for (const std::vector<std::size_t>& parts :
       {std::vector<std::size_t>{20}, {1, 19}, {7, 1, 1, 11}, std::vector<std::size_t>(20, 1)}) {
    cache.clear();
    std::size_t done = 0;
    for (const std::size_t part : parts) {
      const std::vector<float> y = values_of(session.run(cache, ids(done, part)));
      REQUIRE(y.size() == part * width);
      CHECK(relative_error(y, whole.values().subspan(done * width, part * width)) < another_order);
      done += part;
      CHECK(cache.tokens() == static_cast<std::int64_t>(done));
    }
  }
  CHECK(session(ids(0, 20)) == whole); // without the cache, nothing is remembered
}
TEST_CASE("Any parts of a text give what the text gives at once") {
  check_parts<Decoder>();
  check_parts<Body<Biased, 2>>();
}

TEST_CASE("Each sequence of a batch has a cache of its own") {
  Fixture<Decoder> f;
  Session session(f.model);
  KvCache cache(session, 9, 2);
  const std::vector<std::int32_t> both{3, 1, 4, 1, /**/ 9, 9, 2, 6};
  const std::vector<std::int32_t> then{5, /**/ 5};
  (void)session.run(cache, view(both, {2, 4}));
  const std::vector<float> y = values_of(session.run(cache, view(then, {2, 1})));
  for (std::size_t i = 0; i < 2; ++i) {
    std::vector<std::int32_t> one(both.begin() + static_cast<std::ptrdiff_t>(4 * i),
                                  both.begin() + static_cast<std::ptrdiff_t>(4 * i + 4));
    one.push_back(then[i]);
    const Tensor alone = session(view(one, {1, 5}));
    CHECK(relative_error(std::span(y).subspan(11 * i, 11), alone.row(4)) < another_order);
  }
  CHECK(relative_error(std::span(y).first(11), std::span(y).last(11)) > 0.01); // another past, another answer
}

TEST_CASE("Two caches of one session do not know of each other") {
  Fixture<Decoder> f;
  Session session(f.model);
  KvCache one(session, 8);
  KvCache other(session, 6);
  (void)session.run(one, ids(0, 5));
  (void)session.run(other, ids(10, 4));
  const std::vector<float> y = values_of(session.run(one, ids(5, 1)));
  const std::vector<float> z = values_of(session.run(other, ids(14, 1)));
  CHECK(relative_error(y, session(ids(0, 6)).row(5)) < another_order);
  CHECK(relative_error(z, session(ids(10, 5)).row(4)) < another_order);
}

TEST_CASE("What is kept of a cache is the beginning of its text") {
  Fixture<Decoder> f;
  Session session(f.model);
  KvCache cache(session, 12);
  (void)session.run(cache, ids(0, 10));
  cache.keep(99); // there are no more than 10
  CHECK(cache.tokens() == 10);
  cache.keep(4);
  CHECK(cache.tokens() == 4);
  CHECK(cache.capacity() == 12);
  std::vector<std::int32_t> other(text.begin(), text.begin() + 4);
  other.push_back(8);
  const std::vector<float> y = values_of(session.run(cache, view(std::span(other).last(1), {1, 1})));
  CHECK(relative_error(y, session(view(other, {1, 5})).row(4)) < another_order);
  cache.keep(-3);
  CHECK(cache.tokens() == 0);
  (void)session.run(cache, ids(0, 3));
  cache.clear();
  CHECK(cache.tokens() == 0);
  const std::vector<float> z = values_of(session.run(cache, ids(7, 1)));
  CHECK(relative_error(z, session(ids(7, 1)).row(0)) < another_order);
}

TEST_CASE("A cache that cannot be, or does not fit the call, is refused in a sentence") {
  {
    Fixture<Mlp> f;
    Session session(f.model);
    CHECK_THROWS_WITH_AS(
        KvCache(session, 4),
        "KvCache: this net keeps nothing between calls; only an Attention that is Causal does", error);
  }
  Fixture<Decoder> f;
  Session session(f.model);
  CHECK_THROWS_WITH_AS(KvCache(session, 0),
                       "KvCache: expected room for at least 1 token and 1 sequence, got 0 and 1", error);
  CHECK_THROWS_WITH_AS(KvCache(session, 4, -2),
                       "KvCache: expected room for at least 1 token and 1 sequence, got 4 and -2", error);
  KvCache cache(session, 6, 2);
  CHECK_THROWS_WITH_AS((void)session.run(cache, ids(0, 3)), "KvCache: expected batch = 2, got 1",
                       shape_error);
  (void)session.run(cache, view(std::span(text).first(8), {2, 4}));
  CHECK_THROWS_WITH_AS(
      (void)session.run(cache, view(std::span(text).first(6), {2, 3})),
      "KvCache: room for 6 tokens, of which 4 are taken; this call has 3; make a larger cache, or "
      "keep fewer",
      shape_error);
  CHECK(cache.tokens() == 4);
  (void)session.run(cache, view(std::span(text).first(4), {2, 2}));
  CHECK(cache.tokens() == 6);

  Session other(f.model);
  const TensorView next = view(std::span(text).first(2), {2, 1});
  cache.keep(2);
  CHECK_THROWS_WITH_AS((void)other.run(cache, next),
                       "KvCache: it was filled in another session; clear it first", error);
  CHECK(cache.tokens() == 2);
  (void)session.run(cache, next);
  cache.clear();
  (void)other.run(cache, next); // an empty cache is nobody's
  CHECK(cache.tokens() == 1);
  CHECK_THROWS_AS((void)session.run(cache, next), error);
}

TEST_CASE("A cache's bytes stand in the ledger as long as it does") {
  Fixture<Decoder> f;
  Session session(f.model);
  const BytesByCategory before = f.ledger.current();
  {
    const KvCache cache(session, 32, 2);
    CHECK(cache.capacity() == 32);
    CHECK(cache.tokens() == 0);
    CHECK(cache.bytes() == std::int64_t{3} * 32 * 2 * 8 * 4); // layers, tokens, sequences, k and v, floats
    CHECK(f.ledger.current()[Category::workspace] - before[Category::workspace] == cache.bytes());
  }
  CHECK(f.ledger.current()[Category::workspace] == before[Category::workspace]);
}

TEST_CASE("A cache over the budget is refused and leaves everything as before") {
  Fixture<Decoder> f;
  Session session(f.model, {.tokens = 8});
  KvCache small(session, 20);
  (void)session.run(small, ids(0, 5));
  const Tensor y = session(ids(0, 8));
  const BytesByCategory before = f.ledger.current();
  const std::int64_t scratch = session.scratch_bytes();
  constexpr std::int64_t capacity = 200'000;
  constexpr std::int64_t bytes = capacity * 3 * 8 * 4;
  {
    const KvCache cache(session, 21); // what needs no more scratch may come and go
  }
  // Not even the keys and values fit; they fit, but not the scores of so many keys.
  for (const std::int64_t room : {bytes - 1, bytes + 64}) {
    f.ledger.set_budget(before.budgeted() + room);
    CHECK_THROWS_AS(KvCache(session, capacity), budget_error);
    CHECK(f.ledger.current() == before);
    CHECK(session.scratch_bytes() == scratch);
    CHECK(session(ids(0, 8)) == y);
  }
  f.ledger.set_budget(-1);
  const std::vector<float> next = values_of(session.run(small, ids(5, 1)));
  CHECK(small.tokens() == 6);
  CHECK(relative_error(next, session(ids(0, 6)).row(5)) < another_order);
  const KvCache large(session, capacity);
  CHECK(large.bytes() == bytes);
  CHECK(session.scratch_bytes() > scratch);
}

TEST_CASE("Where memory ends while a cache is made, everything is as before") {
  TemporaryFolder folder;
  write_checkpoint<Decoder>(folder.file("m.safetensors"));
  Ledger ledger(failing_source());
  const auto model = open<Decoder>(folder.file("m.safetensors"), {.ledger = &ledger});
  Session session(model, {.tokens = 8});
  const Tensor y = session(ids(0, 8));
  const BytesByCategory before = ledger.current();
  std::int64_t failures = 0;
  for (std::int64_t nth = 1;; ++nth) {
    bool is_made = false;
    bool is_reported = false;
    bool has_failed = false;
    {
      const FailAllocations fail(nth);
      try {
        const KvCache cache(session, 200'000);
        is_made = true;
      } catch (const std::exception&) {
        is_reported = true;
      }
      has_failed = fail.triggered();
    }
    CHECK(is_made != is_reported);
    if (!has_failed) break;
    ++failures;
    CHECK(is_reported);
    CHECK(ledger.current() == before);
    CHECK(session(ids(0, 8)) == y);
  }
  CHECK(failures >= 2); // the keys and values, the scratch
}

TEST_CASE("A forward pass that fails leaves the tokens of its cache as before") {
  SUBCASE("at its first step") {
    Fixture<Decoder> f;
    Session session(f.model);
    KvCache cache(session, 12);
    (void)session.run(cache, ids(0, 6));
    const std::vector<std::int32_t> bad{4, 11};
    CHECK_THROWS_AS((void)session.run(cache, view(bad, {1, 2})), error);
    CHECK(cache.tokens() == 6);
    const std::vector<float> y = values_of(session.run(cache, ids(6, 2)));
    CHECK(cache.tokens() == 8);
    CHECK(relative_error(std::span(y).last(11), session(ids(0, 8)).row(7)) < another_order);
  }
  SUBCASE("at its last, when keys and values of its tokens are written already") {
    Fixture<AtSeven> f;
    Session session(f.model);
    KvCache cache(session, 12);
    const std::vector<std::int32_t> first{7, 2, 5};
    const std::vector<std::int32_t> bad{1, 9};
    const std::vector<std::int32_t> next{4, 7};
    (void)session.run(cache, view(first, {1, 3}));
    CHECK_THROWS_AS((void)session.run(cache, view(bad, {1, 2})), error);
    CHECK(cache.tokens() == 3);
    const std::vector<float> y = values_of(session.run(cache, view(next, {1, 2})));
    CHECK(cache.tokens() == 5);

    KvCache fresh(session, 12); // never saw a failure
    (void)session.run(fresh, view(first, {1, 3}));
    CHECK(values_of(session.run(fresh, view(next, {1, 2}))) == y);
    const Tensor alone = session(view(next, {1, 2}));
    CHECK(relative_error(y, alone.values()) > 0.01); // the past counts
    CHECK_THROWS_AS((void)session.run(cache, view(bad, {1, 2})), error);
    CHECK(session(view(next, {1, 2})) == alone); // without a cache, also after a failure with one
  }
}

TEST_CASE("A call with a cache allocates nothing, whatever it has read") {
  Fixture<Decoder> f;
  Session session(f.model, {.tokens = 5});
  KvCache cache(session, 20);
  const TensorView five = ids(0, 5);
  const TensorView one = ids(5, 1);
  const AllocationProbe probe;
  for (int i = 0; i < 3; ++i) (void)session.run(cache, five);
  for (int i = 0; i < 5; ++i) (void)session.run(cache, one);
  const auto taken = probe.count();
  CHECK(taken == 0);
  CHECK(cache.tokens() == 20);
}

TEST_CASE("A mask and a cache together are refused") {
  using Net = Graph<Inputs<"x", "mask">, Let<"q", Linear<"q", 8, 8>, "x">,
                    Let<"y", Attention<Heads{1, 8}, Causal>, "q", "x", "x", "mask">, Outputs<"y">>;
  Fixture<Net> f;
  Session session(f.model);
  KvCache cache(session, 8);
  const Tensor x = ramp({1, 2, 8});
  const Tensor mask({1, 2}, {1, 1});
  CHECK_THROWS_WITH_AS((void)session.run(cache, x, mask),
                       "Attention: a mask cannot be given together with a KvCache", error);
  CHECK(cache.tokens() == 0);
  (void)session.run(x, mask);
}

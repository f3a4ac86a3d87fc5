// SPDX-License-Identifier: Apache-2.0
// What a cache of keys and values refuses, what it holds, and what is left where something fails, wherever its session
// computes; see kv_cache_checks.hpp for `Home`.
#pragma once

#include <support/kv_cache_checks.hpp>

namespace tenon::test {

/// A net that keeps nothing.
using Forgetful = Sequential<Linear<"up", 6, 10>, Gelu>;

template <template <class> class Home>
void check_refusals() {
  {
    Home<Forgetful> f;
    Session session(f.opened());
    CHECK_THROWS_WITH_AS(
        KvCache(session, 4),
        "KvCache: this net keeps nothing between calls; only an Attention that is Causal does", error);
  }
  Home<Decoder> f;
  Session session(f.opened());
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
  const std::vector<float> y = values_of(session.run(cache, view(std::span(text).first(4), {2, 2})));
  CHECK(cache.tokens() == 6);
  KvCache never_refused(session, 6, 2);
  (void)session.run(never_refused, view(std::span(text).first(8), {2, 4}));
  CHECK(values_of(session.run(never_refused, view(std::span(text).first(4), {2, 2}))) == y);

  Session other(f.opened());
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

template <template <class> class Home>
void check_bytes_in_the_ledger() {
  Home<Decoder> f;
  Session session(f.opened());
  const BytesByCategory before = f.memory().current();
  const BytesByCategory on_host = f.ledger.current();
  {
    const KvCache cache(session, 32, 2);
    CHECK(cache.capacity() == 32);
    CHECK(cache.tokens() == 0);
    CHECK(cache.bytes() == std::int64_t{3} * 32 * 2 * 8 * 4); // layers, tokens, sequences, k and v, floats
    CHECK(f.memory().current()[Category::workspace] - before[Category::workspace] == cache.bytes());
    if (&f.memory() != &f.ledger) CHECK(f.ledger.current() == on_host);
  }
  CHECK(f.memory().current()[Category::workspace] == before[Category::workspace]);
}

/// `capacity`: for which the scratch of an attention with a relative bias is more than that of other steps.
template <template <class> class Home>
void check_budget(std::int64_t capacity) {
  Home<DecoderBody<Biased, 1>> f;
  Session session(f.opened(), {.tokens = 8});
  KvCache small(session, 20);
  (void)session.run(small, ids(0, 5));
  const Tensor y = session(ids(0, 8));
  const BytesByCategory before = f.memory().current();
  const std::int64_t scratch = session.scratch_bytes();
  const std::int64_t bytes = capacity * 8 * 4;
  {
    const KvCache cache(session, 21); // what needs no more scratch may come and go
  }
  // Not even the keys and values fit; they fit, but not the scratch for so many.
  for (const std::int64_t room : {bytes - 1, bytes + 64}) {
    f.memory().set_budget(before.budgeted() + room);
    CHECK_THROWS_AS(KvCache(session, capacity), budget_error);
    CHECK(f.memory().current() == before);
    CHECK(session.scratch_bytes() == scratch);
    CHECK(session(ids(0, 8)) == y);
  }
  f.memory().set_budget(-1);
  const std::vector<float> next = values_of(session.run(small, ids(5, 1)));
  CHECK(small.tokens() == 6);
  CHECK(relative_error(next, session(ids(0, 6)).row(5)) < another_order);
  const KvCache large(session, capacity);
  CHECK(large.bytes() == bytes);
  CHECK(session.scratch_bytes() > scratch);
}

template <template <class> class Home>
void check_failure_at_the_first_step() {
  Home<Decoder> f;
  Session session(f.opened());
  KvCache cache(session, 12);
  (void)session.run(cache, ids(0, 6));
  const std::vector<std::int32_t> bad{4, 11};
  CHECK_THROWS_AS((void)session.run(cache, view(bad, {1, 2})), error);
  CHECK(cache.tokens() == 6);
  const std::vector<float> y = values_of(session.run(cache, ids(6, 2)));
  CHECK(cache.tokens() == 8);
  CHECK(relative_error(std::span(y).last(11), session(ids(0, 8)).row(7)) < another_order);
}

/// When keys and values of its tokens are written already.
template <template <class> class Home>
void check_failure_at_the_last_step() {
  Home<AtSeven> f;
  Session session(f.opened());
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

/// Two reasons to fail, in two steps: a device learns of one when the other is thrown.
template <template <class> class Home>
void check_failure_beyond_the_positions() {
  Home<Decoder> f;
  Session session(f.opened());
  KvCache cache(session, decoder_positions + 5);
  for (int i = 0; i < 2; ++i) (void)session.run(cache, ids(0, 19));
  const std::vector<std::int32_t> bad{4, 11, 4};
  CHECK_THROWS_AS((void)session.run(cache, view(bad, {1, 3})), error);
  CHECK_THROWS_WITH_AS((void)session.run(cache, ids(0, 3)),
                       "position embeddings: expected at most 40 tokens, got 41; split the input",
                       shape_error);
  CHECK(cache.tokens() == 38);
  (void)session.run(cache, ids(0, 2));
  CHECK(cache.tokens() == 40);
}

template <template <class> class Home>
void check_mask_is_refused() {
  Home<MaskedDecoder> f;
  Session session(f.opened());
  KvCache cache(session, 8);
  const Tensor x = ramp({1, 2, 8});
  const Tensor mask({1, 2}, {1, 1});
  CHECK_THROWS_WITH_AS((void)session.run(cache, x, mask),
                       "Attention: a mask cannot be given together with a KvCache", error);
  CHECK(cache.tokens() == 0);
  (void)session.run(x, mask);
}

} // namespace tenon::test

// SPDX-License-Identifier: Apache-2.0
// What a cache of keys and values promises wherever its session computes, as checks for tests of the host and of devices.
// `Home<Net>` is a fixture: `opened()` a model of the net with random weights, `memory()` the ledger of its memory,
// `tone` and `other` adapters.
#pragma once

#include <session/fixture.hpp>
#include <support/allocation_probe.hpp>
#include <support/decoders.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace tenon::test {

/// A net that keeps nothing.
using Forgetful = Sequential<Linear<"up", 6, 10>, Gelu>;

template <template <class> class Home, class Net>
void check_any_parts() {
  Home<Net> f;
  Session session(f.opened());
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

template <template <class> class Home>
void check_adapters_and_parts() {
  Home<Decoder> f;
  Session session(f.opened());
  KvCache cache(session, 20);
  const Tensor base = session(ids(0, 20));
  const auto check = [&](const Guard&) {
    cache.clear();
    const Tensor whole = session(ids(0, 20));
    CHECK(relative_error(whole.values(), base.values()) > 0.01);
    (void)session.run(cache, ids(0, 5));
    for (std::size_t t = 5; t < 20; ++t)
      CHECK(relative_error(values_of(session.run(cache, ids(t, 1))),
                           whole.row(static_cast<std::int64_t>(t))) < another_order);
  };
  check(session.attach(f.tone, f.other.scaled(0.5)));
  check(session.template attach<merged>(f.tone, f.other.scaled(0.5)));
  CHECK_THROWS_WITH_AS(
      (void)session.run(cache, ids(0, 1)),
      "KvCache: its 20 tokens were computed before an adapter was attached or released; clear it, or "
      "compute them again",
      error);
  CHECK(cache.tokens() == 20);
  CHECK(session(ids(0, 20)) == base);
}

template <template <class> class Home>
void check_sequences_of_a_batch() {
  Home<Decoder> f;
  Session session(f.opened());
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

template <template <class> class Home>
void check_two_caches() {
  Home<Decoder> f;
  Session session(f.opened());
  KvCache one(session, 8);
  KvCache other(session, 6);
  (void)session.run(one, ids(0, 5));
  (void)session.run(other, ids(10, 4));
  const std::vector<float> y = values_of(session.run(one, ids(5, 1)));
  const std::vector<float> z = values_of(session.run(other, ids(14, 1)));
  CHECK(relative_error(y, session(ids(0, 6)).row(5)) < another_order);
  CHECK(relative_error(z, session(ids(10, 5)).row(4)) < another_order);
}

template <template <class> class Home>
void check_kept_tokens() {
  Home<Decoder> f;
  Session session(f.opened());
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

/// `counts_allocations`: where nothing but Tenon allocates, as a driver may.
template <template <class> class Home>
void check_nothing_is_allocated(bool counts_allocations = true) {
  Home<DecoderBody<Biased, 2>> f;
  Session session(f.opened(), {.tokens = 5});
  KvCache cache(session, 20);
  const TensorView five = ids(0, 5);
  const TensorView one = ids(5, 1);
  (void)session.run(cache, one); // what a device's lane takes at its first pass
  cache.clear();
  const BytesByCategory before = f.memory().current();
  const PeakScope peak(f.memory());
  const AllocationProbe probe;
  for (int i = 0; i < 3; ++i) (void)session.run(cache, five);
  for (int i = 0; i < 5; ++i) (void)session.run(cache, one);
  const auto taken = probe.count();
  if (counts_allocations) CHECK(taken == 0);
  CHECK(peak.peak_above_start() == 0);
  CHECK(f.memory().current() == before);
  CHECK(cache.tokens() == 20);
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

// --- of devices alone ---------------------------------------------------------------------------------------------

/// A token is its id, a word for faults and its outputs: nothing else moves, and the thread waits once.
template <template <class> class Home>
void check_copies_of_a_token() {
  Home<Decoder> f;
  Session session(f.opened());
  KvCache cache(session, 20);
  (void)session.run(cache, ids(0, 5));
  for (std::size_t t = 5; t < 9; ++t) {
    const DeviceCounts before = session.device_counts();
    (void)session.run(cache, ids(t, 1));
    const DeviceCounts after = session.device_counts();
    CHECK(after.uploads - before.uploads == 1);
    CHECK(after.upload_bytes - before.upload_bytes == 4);
    CHECK(after.downloads - before.downloads == 2);
    CHECK(after.download_bytes - before.download_bytes == 4 + 11 * 4);
    CHECK(after.waits - before.waits == 1);
    CHECK(after.merges == before.merges);
  }
}

/// Passes with a cache are not recorded, and leave the recording of others as it is.
template <template <class> class Home>
void check_recorded_passes() {
  Home<Decoder> f;
  Session session(f.opened(), {.tokens = 20});
  KvCache cache(session, 20);
  const Tensor whole = session(ids(0, 20));
  const Tensor five = session(ids(3, 5));
  session.record_passes();
  const auto decode = [&] {
    cache.clear();
    (void)session.run(cache, ids(0, 5));
    for (std::size_t t = 5; t < 20; t += t == 8 ? 5 : 1) { // once five tokens, as in the passes without
      const std::size_t count = t == 8 ? 5 : 1;
      const std::vector<float> y = values_of(session.run(cache, ids(t, count)));
      CHECK(relative_error(y, whole.values().subspan(t * 11, count * 11)) < another_order);
    }
  };
  decode();
  CHECK(session.device_counts().recordings == 0);
  for (int i = 0; i < 3; ++i) CHECK(session(ids(3, 5)) == five);
  CHECK(session.device_counts().recordings == 1);
  CHECK(session.device_counts().replays == 2);
  decode();
  CHECK(session.device_counts().recordings == 1);
  CHECK(session.device_counts().replays == 2);
  const KvCache another(session, 10'000); // with which scratch may grow
  for (int i = 0; i < 3; ++i) CHECK(session(ids(3, 5)) == five);
  decode();
  CHECK(session.device_counts().replays > 2);
}

} // namespace tenon::test

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

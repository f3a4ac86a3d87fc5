// SPDX-License-Identifier: Apache-2.0
// What a cache of keys and values promises, on small decoders with random weights, on the host and on a stand-in for a
// device. That it gives what transformers' gives is tested with the models; devices' own steps in tests/device.
#include "session/on_device.hpp"
#include "support/kv_cache_checks.hpp"
#include "support/kv_cache_refusals.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

template <class Net>
struct AtHost : Fixture<Net> {
  [[nodiscard]] const Model<Net>& opened() const { return this->model; }
  [[nodiscard]] Ledger& memory() { return this->ledger; }
};
template <class Net>
struct OnStandIn : OnDevice<Net> {
  [[nodiscard]] const Model<Net, on_device>& opened() const { return this->moved; }
};

/// For attentions' scores to take more scratch than all else.
constexpr std::int64_t many_tokens = 200'000;

} // namespace

TEST_CASE("Any parts of a text give what the text gives at once") {
  check_any_parts<AtHost, Decoder>();
  check_any_parts<AtHost, DecoderBody<Biased, 2>>();
  check_any_parts<OnStandIn, Decoder>();
  check_any_parts<OnStandIn, DecoderBody<Biased, 2>>();
}

TEST_CASE("Any parts of a text give what the text gives at once, also with adapters") {
  check_adapters_and_parts<AtHost>();
  check_adapters_and_parts<OnStandIn>();
}

TEST_CASE("Each sequence of a batch has a cache of its own") {
  check_sequences_of_a_batch<AtHost>();
  check_sequences_of_a_batch<OnStandIn>();
}

TEST_CASE("Two caches of one session do not know of each other") {
  check_two_caches<AtHost>();
  check_two_caches<OnStandIn>();
}

TEST_CASE("What is kept of a cache is the beginning of its text") {
  check_kept_tokens<AtHost>();
  check_kept_tokens<OnStandIn>();
}

TEST_CASE("A cache that cannot be, or does not fit the call, is refused in a sentence") {
  check_refusals<AtHost>();
  check_refusals<OnStandIn>();
}

TEST_CASE("A cache's bytes stand in the ledger of the model's memory as long as it does") {
  check_bytes_in_the_ledger<AtHost>();
  check_bytes_in_the_ledger<OnStandIn>();
}

TEST_CASE("A cache over the budget is refused and leaves everything as before") {
  check_budget<AtHost>(many_tokens);
  check_budget<OnStandIn>(many_tokens);
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
        const KvCache cache(session, many_tokens);
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

TEST_CASE("Where a device's memory ends while a cache is made, everything is as before") {
  OnDevice<Decoder> f;
  Session session(f.moved, {.tokens = 8});
  const Tensor y = session(ids(0, 8));
  const Held before(f);
  const std::int64_t scratch = session.scratch_bytes();
  for (const int allowed : {0, 1}) { // the keys and values, the scratch
    f.gpu->refuse_after = allowed;
    std::optional<ErrorCode> failed;
    try {
      const KvCache cache(session, many_tokens);
    } catch (const error& why) {
      failed = why.code();
    }
    f.gpu->refuse_after = -1;
    CHECK(failed == ErrorCode::out_of_memory);
    CHECK(Held(f) == before);
    CHECK(session.scratch_bytes() == scratch);
    CHECK(session(ids(0, 8)) == y);
  }
  const KvCache cache(session, many_tokens);
  CHECK(session.scratch_bytes() > scratch);
}

TEST_CASE("A forward pass that fails leaves the tokens of its cache as before") {
  check_failure_at_the_first_step<AtHost>();
  check_failure_at_the_first_step<OnStandIn>();
  check_failure_at_the_last_step<AtHost>();
  check_failure_at_the_last_step<OnStandIn>();
  check_failure_beyond_the_positions<AtHost>();
  check_failure_beyond_the_positions<OnStandIn>();
}

TEST_CASE("A device that fails anywhere in a pass leaves the tokens of its cache as before") {
  OnDevice<Decoder> f;
  Session session(f.moved);
  KvCache cache(session, 12);
  (void)session.run(cache, ids(0, 6));
  const std::vector<float> expected = values_of(session.run(cache, ids(6, 2)));
  int failures = 0;
  for (int allowed = 0;; ++allowed) {
    cache.keep(6);
    const Held before(f);
    f.gpu->fail_after = allowed;
    std::optional<ErrorCode> failed;
    try {
      (void)session.run(cache, ids(6, 2));
    } catch (const error& why) {
      failed = why.code();
    }
    f.gpu->fail_after = -1;
    if (!failed) break;
    ++failures;
    CHECK(failed == ErrorCode::device_failed);
    CHECK(cache.tokens() == 6);
    CHECK(Held(f) == before);
    CHECK(values_of(session.run(cache, ids(6, 2))) == expected);
  }
  CHECK(failures > 20); // an upload, each step, two downloads
}

TEST_CASE("A call with a cache allocates nothing, whatever it has read") {
  check_nothing_is_allocated<AtHost>();
  check_nothing_is_allocated<OnStandIn>();
}

TEST_CASE("A mask and a cache together are refused") {
  check_mask_is_refused<AtHost>();
  check_mask_is_refused<OnStandIn>();
}

TEST_CASE("A token read with a cache is its id and its outputs on the way to a device and back") {
  check_copies_of_a_token<OnStandIn>();
}

TEST_CASE("Where passes are recorded, those with a cache are computed step by step") {
  check_recorded_passes<OnStandIn>();
}
